package sources

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"time"
	"unsafe"
)

// Kind tells which member of the union a [Value] holds.
type Kind uint8

// The kinds of value. The zero Value is Null.
const (
	Null Kind = iota
	Bool
	Int64
	Uint64
	Float64
	Text
	Time
)

// ErrNotNumber and ErrTooLarge are what [Value.Float] returns for a value that no
// sample can carry.
var (
	ErrNotNumber = errors.New("not a number")
	ErrTooLarge  = errors.New("a number too large for a sample")
)

// Value is one cell: a small union instead of an any, so that reading a row
// allocates nothing. A Text's bytes belong to the driver and are valid only
// as long as the Row.
//
// It is small enough for the compiler to keep it in registers. With a slice
// for the text, two words more, decoding a row would take three times as long.
type Value struct {
	kind Kind
	nsec uint32 // Time: nanoseconds within the second
	bits uint64 // Bool, Int64, Uint64, Float64: the bits; Time: Unix seconds; Text: its length
	text *byte  // Text: its first byte
}

// BoolValue returns a Bool.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: Bool, bits: 1}
	}
	return Value{kind: Bool}
}

// IntValue returns an Int64.
func IntValue(i int64) Value { return Value{kind: Int64, bits: uint64(i)} }

// UintValue returns a Uint64.
func UintValue(u uint64) Value { return Value{kind: Uint64, bits: u} }

// quietNaN is how Prometheus spells the NaN of a sample; others mean something
// to it, such as the end of a series.
const quietNaN = 0x7ff8000000000001

// FloatValue returns a Float64. Every NaN becomes the same one.
func FloatValue(f float64) Value {
	if math.IsNaN(f) {
		return Value{kind: Float64, bits: quietNaN}
	}
	return Value{kind: Float64, bits: math.Float64bits(f)}
}

// TextValue returns a Text over b, which it does not copy.
func TextValue(b []byte) Value {
	return Value{kind: Text, bits: uint64(len(b)), text: unsafe.SliceData(b)}
}

// bytes returns what TextValue was given.
func (v Value) bytes() []byte { return unsafe.Slice(v.text, v.bits) }

// TimeValue returns a Time.
func TimeValue(t time.Time) Value {
	return Value{kind: Time, bits: uint64(t.Unix()), nsec: uint32(t.Nanosecond())}
}

// Kind returns which member v holds.
func (v Value) Kind() Kind { return v.kind }

// IsNull tells whether v is SQL's NULL.
func (v Value) IsNull() bool { return v.kind == Null }

// Float returns v as the value of a sample: a bool is 0 or 1, a time is its
// Unix time in seconds, a text is read as a decimal number, as NaN or
// infinity, or as true or false. Everything else, NULL too, is
// [ErrNotNumber], and a number too large for a float64 is [ErrTooLarge]. It
// allocates nothing.
func (v Value) Float() (float64, error) {
	switch v.kind {
	case Bool, Uint64:
		return float64(v.bits), nil
	case Int64:
		return float64(int64(v.bits)), nil
	case Float64:
		return math.Float64frombits(v.bits), nil
	case Time:
		return float64(int64(v.bits)) + float64(v.nsec)/1e9, nil
	case Text:
		return parseNumber(v.bytes())
	}
	return 0, ErrNotNumber
}

// Exactly tells whether x, which Float returned, is the number that v holds.
// Only whole numbers can be another: of a decimal fraction the nearest float64
// is what everybody means. It allocates only for texts of more than 64 bytes.
func (v Value) Exactly(x float64) bool {
	switch v.kind {
	case Int64:
		return x < 1<<63 && int64(x) == int64(v.bits)
	case Uint64:
		return x < 1<<64 && uint64(x) == v.bits
	case Text:
		digits := bytes.TrimLeft(bytes.TrimSpace(v.bytes()), "+-0")
		if len(digits) == 0 || bytes.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) {
			return true
		}
		var buffer [64]byte
		return bytes.Equal(digits, strconv.AppendFloat(buffer[:0], math.Abs(x), 'f', 0, 64))
	}
	return true
}

// size is about how many bytes v takes in memory and on the wire.
func (v Value) size() int64 {
	if v.kind == Text {
		return int64(v.bits) + 8
	}
	return 8
}

// AppendText appends v as the value of a label to dst and returns the
// extended slice. NULL appends nothing, floats look as Prometheus prints
// them, times are RFC 3339 in UTC, a text is taken as it is: whether it is
// valid UTF-8 is the caller's to check. It allocates only when dst is too
// short.
func (v Value) AppendText(dst []byte) []byte {
	switch v.kind {
	case Bool:
		return strconv.AppendBool(dst, v.bits != 0)
	case Int64:
		return strconv.AppendInt(dst, int64(v.bits), 10)
	case Uint64:
		return strconv.AppendUint(dst, v.bits, 10)
	case Float64:
		return strconv.AppendFloat(dst, math.Float64frombits(v.bits), 'g', -1, 64)
	case Text:
		return append(dst, v.bytes()...)
	case Time:
		return time.Unix(int64(v.bits), int64(v.nsec)).UTC().AppendFormat(dst, time.RFC3339Nano)
	}
	return dst
}

// maxNumberText bounds how long a text may be to be read as a number. It is
// the longest that PostgreSQL's numeric prints, its sign and point included.
const maxNumberText = 131072 + 16383 + 2

// parseNumber reads SQL's spellings of a number. Spaces around it are char(n)
// padding. Go's own spellings, with hex digits or underscores, are refused.
func parseNumber(b []byte) (float64, error) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || len(b) > maxNumberText {
		return 0, ErrNotNumber
	}
	for _, c := range b {
		if (c < '0' || c > '9') && c != '.' && c != 'e' && c != 'E' && c != '-' && c != '+' {
			return parseWord(b)
		}
	}
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(b), len(b)), 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, ErrTooLarge
	case err != nil:
		return 0, ErrNotNumber
	}
	return f, nil
}

// parseWord reads the words that stand for a number, in any case.
func parseWord(b []byte) (float64, error) {
	const longest = len("-infinity")
	if len(b) > longest {
		return 0, ErrNotNumber
	}
	var lower [longest]byte
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:len(b)]) {
	case "true", "t":
		return 1, nil
	case "false", "f":
		return 0, nil
	case "nan":
		return math.Float64frombits(quietNaN), nil
	case "inf", "infinity", "+inf", "+infinity":
		return math.Inf(1), nil
	case "-inf", "-infinity":
		return math.Inf(-1), nil
	}
	return 0, ErrNotNumber
}
