package remotewrite

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"sql2metrics/config"
)

// encoderVersion is part of what shapes a window. It changes whenever the same
// window would be cut or encoded differently.
const encoderVersion = 1

// encoder writes requests as protobuf messages. Samples, which are nearly
// everything, are written by hand from the window; native histograms
// and exemplars, which are rare, take a detour through a scratch buffer.
type encoder struct {
	request uint64 // number of the request being encoded
	symbols uint32 // of the request so far
	scratch []byte
	samples []sample // of one series
	// histograms that 1.0 can carry of a series that has others, too
	histograms []histogramSample
}

// append appends the message of p, a piece of w, to buf.
func (e *encoder) append(buf []byte, version config.Protocol, w *window, p *piece) []byte {
	if version == config.ProtocolV1 {
		return e.appendV1(buf, w, p)
	}
	return e.appendV2(buf, w, p)
}

// Both versions give a sample the fields 1, 2 and, 2.0 only, 3, and number it
// 2 in its series.
const (
	tagSample          = 2<<3 | wireBytes
	tagSampleValue     = 1<<3 | wireFixed64
	tagSampleTime      = 2<<3 | wireVarint
	tagSampleStartTime = 3<<3 | wireVarint
)

// The wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
)

// sampleSize is the length of the sample's message without tag and length. It
// is below 128, so that one byte holds it. Only 2.0 has start timestamps.
func sampleSize(s *sample, starts bool) int {
	n := 0
	if math.Float64bits(s.v) != 0 {
		n += 1 + 8
	}
	if s.t != 0 {
		n += 1 + uvarintSize(uint64(s.t))
	}
	if starts && s.st != 0 {
		n += 1 + uvarintSize(uint64(s.st))
	}
	return n
}

func samplesSize(samples []sample, starts bool) int {
	n := 0
	for i := range samples {
		n += 2 + sampleSize(&samples[i], starts)
	}
	return n
}

// appendSamples appends the samples as field 2 of a series. A zero is left
// out, as protobuf has it; minus zero is not a zero here.
func appendSamples(buf []byte, samples []sample, starts bool) []byte {
	for i := range samples {
		s := &samples[i]
		buf = append(buf, tagSample, 0)
		start := len(buf)
		if b := math.Float64bits(s.v); b != 0 {
			buf = append(buf, tagSampleValue)
			buf = binary.LittleEndian.AppendUint64(buf, b)
		}
		if s.t != 0 {
			buf = append(buf, tagSampleTime)
			buf = binary.AppendUvarint(buf, uint64(s.t))
		}
		if starts && s.st != 0 {
			buf = append(buf, tagSampleStartTime)
			buf = binary.AppendUvarint(buf, uint64(s.st))
		}
		buf[start-1] = byte(len(buf) - start)
	}
	return buf
}

func uvarintSize(x uint64) int { return (bits.Len64(x|1) + 6) / 7 }

// bytesSize is the length of a field of n bytes with its tag and length.
func bytesSize(n int) int { return 1 + uvarintSize(uint64(n)) + n }

func appendTagged(buf []byte, tag byte, n int) []byte {
	return binary.AppendUvarint(append(buf, tag), uint64(n))
}

func appendString(buf []byte, tag byte, s string) []byte {
	return append(appendTagged(buf, tag, len(s)), s...)
}

// message is what the types generated from the .proto files have.
type message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}

// appendMessage appends m as a field. It takes the generated types, which
// cannot fail on a buffer of the size they ask for.
func appendMessage(buf []byte, tag byte, m message) []byte {
	n := m.Size()
	buf = appendTagged(buf, tag, n)
	buf = slices.Grow(buf, n)[:len(buf)+n]
	if _, err := m.MarshalToSizedBuffer(buf[len(buf)-n:]); err != nil {
		panic("remotewrite: marshal into a buffer of its own size: " + err.Error())
	}
	return buf
}
