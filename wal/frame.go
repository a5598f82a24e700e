package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	frameMagic      = 0x6d3273f7 // on disk f7 73 32 6d; 0xf7 is no byte of UTF-8 text
	frameHeaderSize = 88

	flagZstd    = 1 << 0 // the payload is compressed
	flagTable   = 1 << 1 // the segment's series once more, at its end
	flagOwnTime = 1 << 2 // the samples' times come from the data
	knownFlags  = flagZstd | flagTable | flagOwnTime

	// maxRaw bounds what a reader allocates for a payload, before it trusts
	// any of it. A payload is never larger than what it decompresses to.
	maxRaw = 16 << 20
)

// frameHeader is the fixed part of a frame.
type frameHeader struct {
	payload    int // bytes that follow
	flags      uint32
	raw        int // bytes of the payload when decompressed
	counts     Totals
	seq        uint64
	appendedAt int64
	before     Totals // running totals before this frame
	minT, maxT int64
}

func (h frameHeader) size() int     { return frameHeaderSize + h.payload }
func (h frameHeader) isTable() bool { return h.flags&flagTable != 0 }
func (h frameHeader) ownTime() bool { return h.flags&flagOwnTime != 0 }

// timed tells whether minT and maxT mean anything: exemplars do not count.
func (h frameHeader) timed() bool { return h.counts.Samples+h.counts.Histograms > 0 }

// after returns the running totals after the frame.
func (h frameHeader) after() Totals { return h.before.Add(h.counts) }

// putFrameHeader fills in the header at the beginning of frame, whose payload
// is already there: the checksum covers it.
func putFrameHeader(frame []byte, h frameHeader) {
	le := binary.LittleEndian
	le.PutUint32(frame[0:], frameMagic)
	le.PutUint32(frame[8:], uint32(h.payload))
	le.PutUint32(frame[12:], h.flags)
	le.PutUint32(frame[16:], uint32(h.raw))
	le.PutUint32(frame[20:], uint32(h.counts.Samples))
	le.PutUint32(frame[24:], uint32(h.counts.Histograms))
	le.PutUint32(frame[28:], uint32(h.counts.Exemplars))
	le.PutUint64(frame[32:], h.seq)
	le.PutUint64(frame[40:], uint64(h.appendedAt))
	appendTotals(frame[48:48], h.before)
	le.PutUint64(frame[72:], uint64(h.minT))
	le.PutUint64(frame[80:], uint64(h.maxT))
	le.PutUint32(frame[4:], crc32.Checksum(frame[8:h.size()], castagnoli))
}

// errDamaged is what every error about the bytes of a frame is.
var errDamaged = errors.New("no whole frame")

// decodeFrameHeader reads a header and checks everything that can be checked
// without the payload.
func decodeFrameHeader(b []byte) (frameHeader, error) {
	le := binary.LittleEndian
	if len(b) < frameHeaderSize || le.Uint32(b) != frameMagic {
		return frameHeader{}, errDamaged
	}
	payload, flags, raw := le.Uint32(b[8:]), le.Uint32(b[12:]), le.Uint32(b[16:])
	h := frameHeader{
		payload: int(payload),
		flags:   flags,
		raw:     int(raw),
		counts: Totals{
			Samples:    uint64(le.Uint32(b[20:])),
			Histograms: uint64(le.Uint32(b[24:])),
			Exemplars:  uint64(le.Uint32(b[28:])),
		},
		seq:        le.Uint64(b[32:]),
		appendedAt: int64(le.Uint64(b[40:])),
		before:     decodeTotals(b[48:]),
		minT:       int64(le.Uint64(b[72:])),
		maxT:       int64(le.Uint64(b[80:])),
	}
	switch {
	case flags&^knownFlags != 0:
		return h, fmt.Errorf("%w: unknown flags %#x", errDamaged, flags)
	case h.counts.Samples+h.counts.Histograms+h.counts.Exemplars > uint64(raw):
		return h, fmt.Errorf("%w: impossible counts, %+v in %d bytes", errDamaged, h.counts, raw)
	case raw > maxRaw || payload > raw || flags&flagZstd == 0 && payload != raw:
		return h, fmt.Errorf("%w: impossible lengths, payload %d, uncompressed %d", errDamaged, payload, raw)
	}
	return h, nil
}

// verifyFrame checks the checksum of a whole frame.
func verifyFrame(frame []byte) error {
	if crc32.Checksum(frame[8:], castagnoli) != binary.LittleEndian.Uint32(frame[4:]) {
		return fmt.Errorf("%w: checksum does not match", errDamaged)
	}
	return nil
}
