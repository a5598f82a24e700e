package sources

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ClickHouse/ch-go/compress"
)

const (
	// chMaxBlock bounds the bytes of one block of a result. Servers cut blocks
	// at some 65,000 rows.
	chMaxBlock = 64 << 20

	// chMemory is how much of max_result_bytes one block may take in memory,
	// where a cell of a byte may need four more to be found by. It is also what
	// servers are told, which count alike.
	chMemory = 2

	// chSmallResult is what a smaller max_result_bytes is taken for here: who
	// wants the first rows of a result has to read its first block.
	chSmallResult = 4 << 20

	// chMaxText bounds a text that is no cell, such as the type of a column.
	chMaxText = 1 << 20

	// chMaxFrame bounds a compressed frame, of which servers make 1 MiB. Its
	// decoder allocates what the frame says it holds.
	chMaxFrame = 4 << 20

	// chChunk is how much is allocated ahead of what fills it.
	chChunk = 64 << 10
)

// chReader reads ClickHouse's wire format. The codec of the driver believes
// every length it reads and panics, in a goroutine of its own, for one that
// cannot be allocated; this one holds a block to a budget of memory, which all
// is charged to that is kept of it, and allocates little ahead of what arrives.
type chReader struct {
	raw    *bufio.Reader // what comes
	frames *bufio.Reader // what compressed frames in raw hold
	from   *bufio.Reader // one of the two
	left   int           // bytes that may still come before the next call of limit
	most   int           // bytes of memory that a block may take
	memory int           // what of them is left to the block under way
	row    int           // bytes that may be spelled out for one row
	failed bool          // to get bytes at all: what is wrong is not what they say
	buf    []byte
}

// newCHReader returns a reader for results of up to limit bytes, 0 for the
// default of max_result_bytes.
func newCHReader(from io.Reader, limit int64) *chReader {
	if limit <= 0 {
		limit = chMaxBlock
	}
	row := int(max(chSmallResult, min(limit, math.MaxInt/chMemory)))
	raw := bufio.NewReaderSize(from, chChunk)
	return &chReader{
		raw:    raw,
		frames: bufio.NewReaderSize(compress.NewReader(&chFrames{raw: raw}), chChunk),
		from:   raw,
		left:   chMaxBlock,
		most:   row * chMemory,
		memory: row * chMemory,
		row:    row,
	}
}

// limit begins a new message, which may have n bytes.
func (r *chReader) limit(n int) { r.left, r.memory = n, r.most }

// charge takes n bytes of memory from what the block under way may take.
func (r *chReader) charge(n int) error {
	if n > r.memory {
		return fmt.Errorf("a block of the result takes more than %d bytes of memory; select fewer or shorter columns, or raise max_result_bytes", r.most)
	}
	r.memory -= n
	return nil
}

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
	r.buf, err = r.fill(r.buf[:0], n, 0)
	return r.buf, err
}

// text reads a length and as many bytes, valid until the next call.
func (r *chReader) text() ([]byte, error) {
	n, err := r.uvarint()
	if err != nil {
		return nil, err
	}
	if n > chMaxText {
		return nil, chMalformed("length of a text")
	}
	return r.bytes(int(n))
}

// appendBytes appends the next n bytes to dst, which the block keeps.
func (r *chReader) appendBytes(dst []byte, n int) ([]byte, error) {
	if err := r.charge(n); err != nil {
		return dst, err
	}
	return r.fill(dst, n, 0)
}

// appendText is appendBytes for a column whose further cells may be as long as
// the block may still grow.
func (r *chReader) appendText(dst []byte, n int) ([]byte, error) {
	if err := r.charge(n); err != nil {
		return dst, err
	}
	return r.fill(dst, n, r.memory)
}

// fill appends the next n bytes to dst, which may then grow by more.
func (r *chReader) fill(dst []byte, n, more int) ([]byte, error) {
	if err := r.spend(n); err != nil {
		return dst, err
	}
	for n > 0 {
		dst = chGrow(dst, n, more)
		start, part := len(dst), min(n, cap(dst)-len(dst))
		dst = dst[:start+part]
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

// chGrow returns s with room for n elements, or for as many of them as are
// allocated ahead of what arrives. It doubles s, but not beyond the n elements
// and as many more as may come behind them.
func chGrow[T any](s []T, n, more int) []T {
	const least = 64
	ahead := min(n, chChunk)
	if cap(s)-len(s) >= ahead {
		return s
	}
	grown := make([]T, len(s), min(max(2*cap(s), len(s)+ahead, least), len(s)+n+more))
	copy(grown, s)
	return grown
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
		if size < header-checksum || size > chMaxFrame || holds > chMaxFrame {
			return 0, chMalformed("compressed frame")
		}
		f.left = checksum + int(size)
	}
	n, err := f.raw.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}
