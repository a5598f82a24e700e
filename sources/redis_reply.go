package sources

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// redisError is what a server answers in place of a reply, such as
// "WRONGTYPE Operation against a key holding the wrong kind of value".
type redisError string

func (e redisError) Error() string { return "server answered: " + string(e) }

// maxNesting is how deep the lists of a reply may lie in each other. No command
// needs more than a handful; the driver would follow any number.
const maxNesting = 32

var errNested = errors.New("reply has a list within a list that is no row; ask for a part of it, or have a script (EVAL_RO) return rows")

var errCutOff = errors.New("read reply: it ends too early")

// replyBuffer takes one reply, or some that follow each other, as the driver
// reads them, in the words of the protocol (RESP). It is written to line by line,
// so it sees the nesting, and ends a reply that says that it is too long.
type replyBuffer struct {
	data  []byte
	open  []int // how many elements are still to come of each list around the next
	limit int64 // bytes
	over  bool  // there would be more of them
}

// reset makes the buffer ready for the next reply. A large one is given up.
func (b *replyBuffer) reset(limit int64) {
	const keep = 1 << 20
	if cap(b.data) > keep {
		b.data = nil
	}
	*b = replyBuffer{data: b.data[:0], open: b.open[:0], limit: limit}
}

// Write implements [io.Writer]. The driver writes a line, and its end by
// itself.
func (b *replyBuffer) Write(line []byte) (int, error) {
	if err := b.grow(len(line), len(line)); err != nil {
		return 0, err
	}
	b.data = append(b.data, line...)
	if len(line) == 0 || line[0] == '\r' {
		return len(line), nil
	}
	if elements := elementsOf(line); elements > 0 {
		const least = len("_\r\n")
		if elements > int(b.limit)/least {
			b.over = true
			return len(line), errOverLimit
		}
		b.open = append(b.open, elements)
		if len(b.open) > maxNesting {
			return len(line), fmt.Errorf("read reply: lists lie more than %d deep in each other", maxNesting)
		}
		return len(line), nil
	}
	for last := len(b.open) - 1; last >= 0; last-- {
		b.open[last]--
		if b.open[last] > 0 {
			break
		}
		b.open = b.open[:last]
	}
	return len(line), nil
}

// elementsOf returns how many elements follow the line that begins a list.
func elementsOf(line []byte) int {
	switch line[0] {
	case '*', '~', '>', '%', '|':
	default:
		return 0
	}
	n, err := strconv.Atoi(string(line[1:]))
	switch {
	case err != nil:
		return 0 // the driver finds out
	case n > math.MaxInt/4:
		return n // twice as many would be none
	case line[0] == '%':
		return 2 * n
	case line[0] == '|':
		return 2*n + 1
	}
	return n
}

// grow makes room for some bytes that are about to be written, of announced that
// are still to come of the same text. A server that lies about a length costs
// some times what it sends, and no buffer is larger than a reply can be.
func (b *replyBuffer) grow(now, announced int) error {
	if int64(announced) > b.limit-int64(len(b.data)) {
		b.over = true
		return errOverLimit
	}
	need := len(b.data) + now
	if need <= cap(b.data) {
		return nil
	}
	size := max(2*cap(b.data), need, 512)
	if announced > now {
		size = min(8*size, len(b.data)+announced)
	}
	b.data = append(make([]byte, 0, max(need, min(size, int(b.limit)))), b.data...)
	return nil
}

// ReadFrom implements [io.ReaderFrom]: the driver hands over a text by it, with
// the end of its line, as a reader that knows how long it is.
func (b *replyBuffer) ReadFrom(r io.Reader) (int64, error) {
	var read int64
	for {
		more := 1
		if text, is := r.(*io.LimitedReader); is {
			if text.N <= 0 {
				return read, nil
			}
			more = int(text.N)
		}
		if err := b.grow(1, more); err != nil {
			return read, err
		}
		n, err := r.Read(b.data[len(b.data):min(cap(b.data), len(b.data)+more)])
		b.data = b.data[:len(b.data)+n]
		read += int64(n)
		if errors.Is(err, io.EOF) {
			return read, nil
		}
		if err != nil {
			return read, err
		}
	}
}

// reply is a reader of what a buffer holds.
type reply struct{ rest []byte }

// element is a value, or the beginning of a list, a set or a map whose elements
// follow.
type element struct {
	kind byte // of the protocol; '_' for every spelling of nil, '$' for every text
	n    int  // of '*', '~' and '%': elements that follow, two for each pair
	text []byte
}

func (e element) isList() bool { return e.kind == '*' || e.kind == '~' || e.kind == '%' }

// next reads one element. Attributes are passed over. An error that the server
// answered is returned as a [redisError].
func (r *reply) next() (element, error) {
	line, ok := r.line()
	if !ok || len(line) == 0 {
		return element{}, errCutOff
	}
	e := element{kind: line[0], text: line[1:]}
	switch e.kind {
	case '+', '(':
		e.kind = '$'
	case ':', ',', '#', '_':
	case '-':
		return element{}, redisError(e.text)
	case '$', '=', '!', '*', '~', '>', '%', '|':
		n, err := strconv.Atoi(string(e.text))
		if err != nil {
			return element{}, fmt.Errorf("read reply: %q is no length", e.text)
		}
		return r.sized(e.kind, n)
	default:
		return element{}, fmt.Errorf("read reply: %.20q begins no value", line)
	}
	return e, nil
}

// sized reads an element whose header gave its length.
func (r *reply) sized(kind byte, n int) (element, error) {
	switch {
	case n < 0:
		return element{kind: '_'}, nil
	case n > len(r.rest):
		return element{}, errCutOff
	}
	switch kind {
	case '*', '~':
		return element{kind: kind, n: n}, nil
	case '>':
		return element{kind: '*', n: n}, nil
	case '%':
		return element{kind: kind, n: 2 * n}, nil
	case '|':
		for range 2 * n {
			if err := r.skip(); err != nil {
				return element{}, err
			}
		}
		return r.next()
	}
	if n > len(r.rest)-2 {
		return element{}, errCutOff
	}
	text := r.rest[:n]
	r.rest = r.rest[n+2:]
	switch {
	case kind == '!':
		return element{}, redisError(text)
	case kind == '=' && n >= len("txt:"):
		text = text[len("txt:"):]
	}
	return element{kind: '$', text: text}, nil
}

// line cuts one line off.
func (r *reply) line() ([]byte, bool) {
	line, rest, found := bytes.Cut(r.rest, []byte("\r\n"))
	if found {
		r.rest = rest
	}
	return line, found
}

// skip passes over an element with all that is in it.
func (r *reply) skip() error {
	for left := 1; left > 0; left-- {
		e, err := r.next()
		if err != nil {
			return err
		}
		left += e.n
	}
	return nil
}

// value reads an element that is no list.
func (r *reply) value() (Value, error) {
	e, err := r.next()
	if err != nil {
		return Value{}, err
	}
	return e.value()
}

// text reads an element that is a text.
func (r *reply) text() ([]byte, error) {
	e, err := r.next()
	if err != nil {
		return nil, err
	}
	if e.isList() {
		return nil, errNested
	}
	return e.text, nil
}

// list reads the beginning of a list, set or map, and returns how many elements
// follow; nil has none.
func (r *reply) list() (int, error) {
	e, err := r.next()
	if err != nil {
		return 0, err
	}
	if !e.isList() && e.kind != '_' {
		return 0, fmt.Errorf("reply is %.20q and not the list that the command gives", e.text)
	}
	return e.n, nil
}

// value returns e as a cell.
func (e element) value() (Value, error) {
	switch e.kind {
	case '$':
		return TextValue(e.text), nil
	case '_':
		return Value{}, nil
	case '#':
		return BoolValue(string(e.text) == "t"), nil
	case ':':
		i, err := strconv.ParseInt(string(e.text), 10, 64)
		if err != nil {
			return TextValue(e.text), nil
		}
		return IntValue(i), nil
	case ',':
		f, err := TextValue(e.text).Float()
		if err != nil {
			return Value{}, fmt.Errorf("read reply: %q is no number", e.text)
		}
		return FloatValue(f), nil
	}
	return Value{}, errNested
}
