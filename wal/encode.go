package wal

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/record"
)

const (
	// frameItems is how many samples, histograms and exemplars a frame holds
	// at most: enough to compress well, little to lose with one bad sector.
	frameItems = 2000
	// frameBytes is where a frame is cut before it has that many.
	frameBytes = 4 << 20
	// itemBytes is the most that one item may take, its series included. With
	// frameBytes it keeps a payload below maxRaw.
	itemBytes = 8 << 20
	// MaxLabelBytes is about how long the labels of a series may be together: a
	// frame that introduces more could not be read.
	MaxLabelBytes = itemBytes / 2
	// tableItems is how many series one table frame holds.
	tableItems = 2000
)

// encoder turns one round into frames. Its buffers are kept from round to
// round, so that a round of known series allocates nothing.
type encoder struct {
	records record.Encoder
	zstd    *zstd.Encoder

	// The frame being filled.
	series     []record.RefSeries
	metadata   []record.RefMetadata
	samples    []record.RefSample
	histograms []record.RefHistogramSample
	floats     []record.RefFloatHistogramSample
	exemplars  []record.RefExemplar
	states     []State
	bytes      int // estimate of its payload, never too low
	minT, maxT int64
	record     []byte
	raw        []byte

	// The round so far.
	out       []byte
	frames    []encodedFrame
	taken     []takenItem
	described []*Series // series whose metadata is in the round
	changes   []State   // the round's
}

// encodedFrame says where a frame ends in each of the round's buffers, so
// that the frames before it can be kept without it.
type encodedFrame struct {
	header    frameHeader
	out       int
	taken     int
	table     int // length of the segment's series table after it
	described int
}

// takenItem is a time that becomes its series' last when the frame is written.
type takenItem struct {
	series   *Series
	t        int64
	exemplar int // its place in the round, from 1; 0 is a sample or a histogram
}

func newEncoder() *encoder {
	// The fastest level: on rounds of 10,000 samples the next ones take 40 and
	// 60 % more time for the whole append and save not one byte in a hundred.
	// Only bad options are an error.
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err)
	}
	return &encoder{records: record.Encoder{EnableSTStorage: true}, zstd: z}
}

// reset begins a round.
func (e *encoder) reset() {
	e.resetFrame()
	clear(e.taken)
	clear(e.described)
	e.out, e.frames, e.taken, e.described = e.out[:0], e.frames[:0], e.taken[:0], e.described[:0]
	e.changes = nil
}

// resetFrame begins a frame. What holds pointers is cleared: a round that is
// long gone must not keep its histograms and labels alive.
func (e *encoder) resetFrame() {
	clear(e.series)
	clear(e.metadata)
	clear(e.histograms)
	clear(e.floats)
	clear(e.exemplars)
	e.series, e.metadata, e.samples = e.series[:0], e.metadata[:0], e.samples[:0]
	e.histograms, e.floats, e.exemplars = e.histograms[:0], e.floats[:0], e.exemplars[:0]
	e.states = nil
	e.bytes, e.minT, e.maxT = 0, 0, 0
}

// takenIn is how many items are in the first frames of the round.
func (e *encoder) takenIn(frames int) int {
	if frames == 0 {
		return 0
	}
	return e.frames[frames-1].taken
}

func (e *encoder) counts() Totals {
	return Totals{
		Samples:    uint64(len(e.samples)),
		Histograms: uint64(len(e.histograms) + len(e.floats)),
		Exemplars:  uint64(len(e.exemplars)),
	}
}

// add notes a sample or a histogram of so many bytes in the frame.
func (e *encoder) add(s *Series, t int64, bytes int) {
	if len(e.samples)+len(e.histograms)+len(e.floats) == 0 {
		e.minT, e.maxT = t, t
	} else {
		e.minT, e.maxT = min(e.minT, t), max(e.maxT, t)
	}
	e.bytes += bytes
	e.taken = append(e.taken, takenItem{series: s, t: t})
}

// addExemplar is add for the i-th exemplar of the round, whose time is not ours
// to judge.
func (e *encoder) addExemplar(x *Exemplar, i, bytes int) {
	e.bytes += bytes
	e.taken = append(e.taken, takenItem{x.Series, x.T, i + 1})
}

// full tells whether an item of so many bytes begins a new frame.
func (e *encoder) full(bytes int) bool {
	items := len(e.samples) + len(e.histograms) + len(e.floats) + len(e.exemplars)
	return items >= frameItems || items > 0 && e.bytes+bytes > frameBytes
}

// encodeFrame appends the frame that has been filled to the round.
func (e *encoder) encodeFrame(h frameHeader) frameHeader {
	e.raw = e.raw[:0]
	if len(e.series) > 0 {
		e.appendRecord(e.records.Series(e.series, e.record[:0]))
	}
	if len(e.metadata) > 0 {
		e.appendRecord(e.records.Metadata(e.metadata, e.record[:0]))
	}
	if len(e.samples) > 0 {
		e.appendRecord(e.records.Samples(e.samples, e.record[:0]))
	}
	if len(e.exemplars) > 0 {
		e.appendRecord(e.records.Exemplars(e.exemplars, e.record[:0]))
	}
	if len(e.histograms) > 0 {
		rec, _ := e.records.HistogramSamples(e.histograms, e.record[:0])
		e.appendRecord(rec)
	}
	if len(e.floats) > 0 {
		rec, _ := e.records.FloatHistogramSamples(e.floats, e.record[:0])
		e.appendRecord(rec)
	}
	if len(e.states) > 0 {
		e.appendRecord(appendStates(e.record[:0], e.states))
	}

	var space [frameHeaderSize]byte
	start := len(e.out)
	e.out = append(e.out, space[:]...)
	e.out = e.zstd.EncodeAll(e.raw, e.out)
	if len(e.out)-start-frameHeaderSize < len(e.raw) {
		h.flags |= flagZstd
	} else {
		e.out = append(e.out[:start+frameHeaderSize], e.raw...)
	}
	h.payload, h.raw = len(e.out)-start-frameHeaderSize, len(e.raw)
	h.counts, h.minT, h.maxT = e.counts(), e.minT, e.maxT
	putFrameHeader(e.out[start:], h)
	e.resetFrame()
	return h
}

// appendRecord puts a record, which was encoded into e.record, into the payload.
func (e *encoder) appendRecord(rec []byte) {
	e.record = rec
	e.raw = binary.AppendUvarint(e.raw, uint64(len(rec)))
	e.raw = append(e.raw, rec...)
}

// The most bytes that each thing takes in a payload.

const sampleBytes = 40

func seriesBytes(s *Series) int {
	return int(2*s.labels.ByteSize()) + len(s.metadata.Unit) + len(s.metadata.Help) + 64
}

func histogramBytes(h *histogram.Histogram) int {
	return 96 + 16*(len(h.PositiveSpans)+len(h.NegativeSpans)) +
		10*(len(h.PositiveBuckets)+len(h.NegativeBuckets)+len(h.CustomValues))
}

func floatHistogramBytes(h *histogram.FloatHistogram) int {
	return 96 + 16*(len(h.PositiveSpans)+len(h.NegativeSpans)) +
		10*(len(h.PositiveBuckets)+len(h.NegativeBuckets)+len(h.CustomValues))
}
