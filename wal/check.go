package wal

import (
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/record"
)

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
