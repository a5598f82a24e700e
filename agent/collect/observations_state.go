package collect

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// observationsVersion is the first byte of observations as appendTo writes
// them.
const observationsVersion = 1

// appendTo appends o to b for decode to read. The schema and the bounds go
// with it, so that those of another configuration are known.
func (o *observations) appendTo(b []byte) []byte {
	b = append(b, observationsVersion)
	schema := int32(histogram.CustomBucketsSchema)
	if o.sparse != nil {
		schema = o.sparse.schema
	}
	b = binary.AppendVarint(b, int64(schema))
	b = binary.AppendUvarint(b, uint64(len(o.bounds)))
	for _, le := range o.bounds {
		b = appendFloat(b, le)
	}
	for _, n := range o.counts {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, o.count)
	b = appendFloat(appendFloat(b, o.sum.total), o.sum.lost)
	b = binary.AppendUvarint(b, o.zero)
	for _, side := range [][]exponentialBucket{o.positive, o.negative} {
		b = binary.AppendUvarint(b, uint64(len(side)))
		before := int32(0)
		for _, e := range side {
			b = binary.AppendVarint(b, int64(e.index)-int64(before))
			b = binary.AppendUvarint(b, e.count)
			before = e.index
		}
	}
	return b
}

func appendFloat(b []byte, x float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
}

var (
	errOtherBuckets = errors.New("the buckets are those of another configuration")
	errMalformed    = errors.New("not a histogram as this version writes it")
)

// decode reads what appendTo wrote and returns what is behind it. o has the
// bounds and the resolution that are wanted; if what was written has others,
// or is malformed, it is an error and o is empty.
func (o *observations) decode(b []byte) (rest []byte, err error) {
	o.reset()
	r := stateReader{b: b}
	if r.byte() != observationsVersion {
		return nil, errMalformed
	}
	schema := int32(histogram.CustomBucketsSchema)
	if o.sparse != nil {
		schema = o.sparse.schema
	}
	same := r.varint() == int64(schema) && r.uvarint() == uint64(len(o.bounds))
	for i := 0; same && i < len(o.bounds); i++ {
		same = r.float() == o.bounds[i]
	}
	if !same {
		if r.bad {
			return nil, errMalformed
		}
		return nil, errOtherBuckets
	}
	for i := range o.counts {
		o.counts[i] = r.uvarint()
	}
	o.count = r.uvarint()
	o.sum = compensated{r.float(), r.float()}
	o.zero = r.uvarint()
	o.positive, o.negative = r.side(o.positive), r.side(o.negative)
	if sum := o.total(); r.bad || math.IsInf(sum, 0) || math.IsNaN(sum) {
		o.reset()
		return nil, errMalformed
	}
	return r.b, nil
}

// stateReader reads one field after the other. After the first that is
// not there, all are zero.
type stateReader struct {
	b   []byte
	bad bool
}

func (r *stateReader) take(n int) {
	if n <= 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return
	}
	r.b = r.b[n:]
}

func (r *stateReader) byte() (b byte) {
	if len(r.b) > 0 {
		b = r.b[0]
	}
	r.take(1)
	return b
}

func (r *stateReader) uvarint() uint64 {
	x, n := binary.Uvarint(r.b)
	r.take(n)
	return x
}

func (r *stateReader) varint() int64 {
	x, n := binary.Varint(r.b)
	r.take(n)
	return x
}

func (r *stateReader) uint64() (x uint64) {
	if len(r.b) >= 8 {
		x = binary.LittleEndian.Uint64(r.b)
	}
	r.take(8)
	return x
}

func (r *stateReader) float() float64 { return math.Float64frombits(r.uint64()) }

// text reads what appendText wrote.
func (r *stateReader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (r *stateReader) side(into []exponentialBucket) []exponentialBucket {
	before := int64(0)
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		before += r.varint()
		if before < math.MinInt32 || before > math.MaxInt32 || len(into) > 0 && before <= int64(into[len(into)-1].index) {
			r.bad = true
		}
		into = append(into, exponentialBucket{int32(before), r.uvarint()})
	}
	return into
}
