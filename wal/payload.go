package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/klauspost/compress/zstd"
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
	states   []State // what has been decoded, where it is wanted
	stateful bool    // it is
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
	if typ == recordState {
		if d.stateful {
			d.states, err = decodeStates(rec, d.states)
		}
		return err
	}
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
		help := "" // held once for the series of a metric, which come one after the other
		for _, m := range d.metadata {
			if err := growTable(table, uint64(m.Ref)); err != nil {
				return err
			}
			if m.Help != help {
				help = m.Help
			}
			(*table)[m.Ref].Metadata = Metadata{Type: record.ToMetricType(m.Type), Unit: m.Unit, Help: help}
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
