package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/record"
)

// maxSegmentSeries bounds a segment's series table, in memory and against
// damaged references. The writer begins a new segment before it is reached.
const maxSegmentSeries = 1 << 20

var errRecord = errors.New("malformed record")

// payloadDecoder turns payloads into samples. It keeps its buffers, and is for
// one goroutine.
type payloadDecoder struct {
	zstd     *zstd.Decoder
	records  record.Decoder
	raw      []byte
	series   []record.RefSeries
	metadata []record.RefMetadata
}

func newPayloadDecoder() *payloadDecoder {
	// Only bad options are an error.
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err)
	}
	return &payloadDecoder{zstd: z, records: record.NewDecoder(nil, slog.New(slog.DiscardHandler))}
}

func (d *payloadDecoder) close() { d.zstd.Close() }

// decode reads the payload of a frame with that header. Series and metadata
// go into the table; samples, histograms and exemplars into f, or nowhere if f
// is nil.
func (d *payloadDecoder) decode(h frameHeader, payload []byte, table *[]SeriesEntry, f *Frame) error {
	if f != nil {
		f.Samples, f.Exemplars = f.Samples[:0], f.Exemplars[:0]
		f.Histograms, f.FloatHistograms = f.Histograms[:0], f.FloatHistograms[:0]
	}
	if h.flags&flagZstd != 0 {
		if cap(d.raw) < h.raw {
			d.raw = make([]byte, 0, h.raw)
		}
		raw, err := d.zstd.DecodeAll(payload, d.raw[:0:h.raw])
		if err != nil {
			return fmt.Errorf("decompress payload: %w", err)
		}
		if len(raw) != h.raw {
			return fmt.Errorf("payload has %d bytes, its header says %d", len(raw), h.raw)
		}
		payload = raw
	}
	var seen [16]bool
	for len(payload) > 0 {
		n, w := binary.Uvarint(payload)
		if w <= 0 || n == 0 || n > uint64(len(payload)-w) {
			return errRecord
		}
		rec := payload[w : w+int(n)]
		payload = payload[w+int(n):]
		// A second record of a type would continue the first one's slice, and
		// SamplesV2 counts from its last element.
		if rec[0] >= 16 || seen[rec[0]] {
			return fmt.Errorf("%w: type %d unknown or twice", errRecord, rec[0])
		}
		seen[rec[0]] = true
		if err := d.decodeRecord(rec, table, f); err != nil {
			return fmt.Errorf("decode %s: %w", record.Type(rec[0]), err)
		}
	}
	if f != nil && h.counts != f.decoded() {
		return fmt.Errorf("frame holds %+v, its header says %+v", f.decoded(), h.counts)
	}
	return nil
}

// decoded counts what a decoder put into f.
func (f *Frame) decoded() Totals {
	return Totals{
		Samples:    uint64(len(f.Samples)),
		Histograms: uint64(len(f.Histograms) + len(f.FloatHistograms)),
		Exemplars:  uint64(len(f.Exemplars)),
	}
}

func (d *payloadDecoder) decodeRecord(rec []byte, table *[]SeriesEntry, f *Frame) (err error) {
	typ := record.Type(rec[0])
	if f == nil && typ != record.Series && typ != record.Metadata {
		return nil
	}
	if err := checkRecord(rec); err != nil {
		return err
	}
	switch typ {
	case record.Series:
		if d.series, err = d.records.Series(rec, d.series[:0]); err != nil {
			return err
		}
		for _, s := range d.series {
			if err := growTable(table, uint64(s.Ref)); err != nil {
				return err
			}
			(*table)[s.Ref] = SeriesEntry{Labels: s.Labels}
		}
		clear(d.series)
	case record.Metadata:
		if d.metadata, err = d.records.Metadata(rec, d.metadata[:0]); err != nil {
			return err
		}
		for _, m := range d.metadata {
			if err := growTable(table, uint64(m.Ref)); err != nil {
				return err
			}
			(*table)[m.Ref].Metadata = Metadata{Type: record.ToMetricType(m.Type), Unit: m.Unit, Help: m.Help}
		}
		clear(d.metadata)
	case record.SamplesV2:
		f.Samples, err = d.records.Samples(rec, f.Samples)
	case record.Exemplars:
		f.Exemplars, err = d.records.Exemplars(rec, f.Exemplars)
	case record.HistogramSamplesV2:
		f.Histograms, err = d.records.HistogramSamples(rec, f.Histograms)
	case record.FloatHistogramSamplesV2:
		f.FloatHistograms, err = d.records.FloatHistogramSamples(rec, f.FloatHistograms)
	}
	return err
}

// growTable makes room for a reference. References are dense; a gap is what a
// damaged frame introduced.
func growTable(table *[]SeriesEntry, ref uint64) error {
	if ref == 0 || ref > maxSegmentSeries {
		return fmt.Errorf("%w: series reference %d", errRecord, ref)
	}
	for uint64(len(*table)) <= ref {
		*table = append(*table, SeriesEntry{})
	}
	return nil
}

// checkRecord walks a record before record.Decoder does, which takes counts
// and lengths in it for granted: a damaged one would make it panic, loop or
// allocate without bound. Samples need no check, their number follows from
// the record's length.
func checkRecord(rec []byte) error {
	if record.Type(rec[0]) == record.SamplesV2 {
		return nil
	}
	d := &encoding.Decbuf{B: rec[1:]}
	switch record.Type(rec[0]) {
	case record.Series:
		for d.Len() > 0 && d.E == nil {
			d.Be64()
			skipPairs(d)
		}
	case record.Metadata:
		for d.Len() > 0 && d.E == nil {
			d.Uvarint64()
			d.Byte()
			skipPairs(d)
		}
	case record.Exemplars:
		d.Be64()
		d.Be64()
		for d.Len() > 0 && d.E == nil {
			d.Varint64()
			d.Varint64()
			d.Be64()
			skipPairs(d)
		}
	case record.HistogramSamplesV2:
		checkHistograms(d, skipIntHistogram)
	case record.FloatHistogramSamplesV2:
		checkHistograms(d, skipFloatHistogram)
	default:
		return fmt.Errorf("%w: type not in use", errRecord)
	}
	return d.E
}

// skipPairs skips a counted list of pairs of strings.
func skipPairs(d *encoding.Decbuf) {
	n := d.Uvarint64()
	if n > uint64(d.Len()/2) {
		d.E = errRecord
	}
	for ; n > 0 && d.E == nil; n-- {
		skipString(d)
		skipString(d)
	}
}

func skipString(d *encoding.Decbuf) {
	if n := d.Uvarint64(); n > uint64(d.Len()) {
		d.E = errRecord
	} else {
		d.Skip(int(n))
	}
}

func checkHistograms(d *encoding.Decbuf, skip func(*encoding.Decbuf)) {
	d.Varint64()
	d.Varint64()
	d.Varint64()
	skip(d)
	for d.Len() > 0 && d.E == nil {
		d.Varint64()
		d.Varint64()
		if marker := d.Byte(); marker > 1 {
			d.Varint64()
		}
		skip(d)
	}
}

func skipIntHistogram(d *encoding.Decbuf) {
	schema := skipSchema(d)
	d.Uvarint64() // zero count
	d.Uvarint64() // count
	d.Be64()      // sum
	skipSpans(d)
	skipList(d, 1, func() { d.Varint64() })
	skipList(d, 1, func() { d.Varint64() })
	skipCustomValues(d, schema)
}

func skipFloatHistogram(d *encoding.Decbuf) {
	schema := skipSchema(d)
	d.Be64() // zero count
	d.Be64() // count
	d.Be64() // sum
	skipSpans(d)
	skipList(d, 8, func() { d.Be64() })
	skipList(d, 8, func() { d.Be64() })
	skipCustomValues(d, schema)
}

// skipSchema skips reset hint, schema and zero threshold.
func skipSchema(d *encoding.Decbuf) int32 {
	d.Byte()
	schema := int32(d.Varint64())
	d.Be64()
	if d.E == nil && !storableSchema(schema) {
		d.E = fmt.Errorf("%w: histogram schema %d", errRecord, schema)
	}
	return schema
}

func skipSpans(d *encoding.Decbuf) {
	for range 2 {
		skipList(d, 2, func() {
			d.Varint64()
			d.Uvarint64()
		})
	}
}

func skipCustomValues(d *encoding.Decbuf, schema int32) {
	if histogram.IsCustomBucketsSchema(schema) {
		skipList(d, 8, func() { d.Be64() })
	}
}

// skipList skips a counted list of elements of at least size bytes each.
func skipList(d *encoding.Decbuf, size int, skip func()) {
	n := d.Uvarint64()
	if n > uint64(d.Len()/size) {
		d.E = errRecord
	}
	for ; n > 0 && d.E == nil; n-- {
		skip()
	}
}

// storableSchema tells whether record.Decoder gives a histogram of the schema
// back as it was.
func storableSchema(schema int32) bool {
	return histogram.IsCustomBucketsSchema(schema) || histogram.IsExponentialSchema(schema)
}
