package sources

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ClickHouse/ch-go/compress"
)

const (
	// chMaxBlock bounds what a server, or what answers in its place, can make
	// us allocate for one block of a result. Servers cut blocks at some 65,000
	// rows.
	chMaxBlock = 64 << 20

	// chChunk is how much is allocated ahead of the bytes that fill it.
	chChunk = 64 << 10
)

// chReader reads ClickHouse's wire format. The codec of the driver believes
// every length it reads and panics, in a goroutine of its own, for one that
// cannot be allocated; this one allocates no more than has arrived.
type chReader struct {
	raw    *bufio.Reader // what comes
	frames *bufio.Reader // what compressed frames in raw hold
	from   *bufio.Reader // one of the two
	left   int           // bytes that may still come before the next call of limit
	failed bool          // to get bytes at all: what is wrong is not what they say
	buf    []byte
}

func newCHReader(from io.Reader) *chReader {
	raw := bufio.NewReaderSize(from, chChunk)
	return &chReader{
		raw:    raw,
		frames: bufio.NewReaderSize(compress.NewReader(&chFrames{raw: raw}), chChunk),
		from:   raw,
		left:   chMaxBlock,
	}
}

// limit begins a new message, which may have n bytes.
func (r *chReader) limit(n int) { r.left = n }

// compressed makes what follows be taken from compressed frames, or not.
func (r *chReader) compressed(on bool) {
	r.from = r.raw
	if on {
		r.from = r.frames
	}
}

// ended tells whether nothing more comes.
func (r *chReader) ended() bool {
	_, err := r.from.Peek(1)
	return errors.Is(err, io.EOF)
}

func (r *chReader) spend(n int) error {
	if n < 0 || n > r.left {
		return fmt.Errorf("a block of the result has more than %d bytes; select fewer or shorter columns", chMaxBlock)
	}
	r.left -= n
	return nil
}

// enough refuses a number of cells for which not even a byte each may come.
func (r *chReader) enough(cells int) error {
	left := r.left
	err := r.spend(cells)
	r.left = left
	return err
}

func (r *chReader) byte() (byte, error) {
	if err := r.spend(1); err != nil {
		return 0, err
	}
	b, err := r.from.ReadByte()
	r.failed = r.failed || err != nil
	return b, err
}

func (r *chReader) bool() (bool, error) {
	b, err := r.byte()
	return b != 0, err
}

func (r *chReader) uvarint() (uint64, error) {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		b, err := r.byte()
		if err != nil {
			return 0, err
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, chMalformed("number")
}

func (r *chReader) uint64() (uint64, error) {
	b, err := r.bytes(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// count reads a number of cells.
func (r *chReader) count() (int, error) {
	n, err := r.uint64()
	if err != nil {
		return 0, err
	}
	if n > chMaxBlock {
		return 0, chMalformed("number of cells")
	}
	return int(n), r.enough(int(n))
}

// bytes reads n bytes. They are valid until the next call.
func (r *chReader) bytes(n int) (_ []byte, err error) {
	r.buf, err = r.appendBytes(r.buf[:0], n)
	return r.buf, err
}

// text reads a length and as many bytes, valid until the next call.
func (r *chReader) text() ([]byte, error) {
	n, err := r.uvarint()
	if err != nil {
		return nil, err
	}
	if n > chMaxBlock {
		return nil, chMalformed("length of a text")
	}
	return r.bytes(int(n))
}

// appendBytes appends the next n bytes to dst.
func (r *chReader) appendBytes(dst []byte, n int) ([]byte, error) {
	if err := r.spend(n); err != nil {
		return dst, err
	}
	for n > 0 {
		start, part := len(dst), min(n, max(chChunk, cap(dst)-len(dst)))
		dst = slices.Grow(dst, part)[:start+part]
		if _, err := io.ReadFull(r.from, dst[start:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			r.failed = true
			return dst[:start], err
		}
		n -= part
	}
	return dst, nil
}

// chFrames hands compressed frames on to their decoder, which allocates what
// their headers ask for.
type chFrames struct {
	raw  *bufio.Reader
	left int // bytes of the frame under way
}

// Read implements [io.Reader].
func (f *chFrames) Read(p []byte) (int, error) {
	if f.left == 0 {
		// A checksum, the method, the bytes that follow the checksum, and how
		// many they hold.
		const checksum, header = 16, 16 + 1 + 4 + 4
		head, err := f.raw.Peek(header)
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		size := binary.LittleEndian.Uint32(head[checksum+1:])
		holds := binary.LittleEndian.Uint32(head[checksum+5:])
		if size < header-checksum || size > chMaxBlock || holds > chMaxBlock {
			return 0, chMalformed("compressed frame")
		}
		f.left = checksum + int(size)
	}
	n, err := f.raw.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}
