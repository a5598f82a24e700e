package sources

import (
	"math"
	"time"
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

// Value is one cell: a small union instead of an any, so that reading a row
// allocates nothing. A Text's bytes belong to the driver and are valid only
// as long as the Row.
type Value struct {
	kind Kind
	nsec uint32 // Time: nanoseconds within the second
	bits uint64 // Bool, Int64, Uint64, Float64: the bits; Time: Unix seconds
	text []byte // Text
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

// FloatValue returns a Float64.
func FloatValue(f float64) Value { return Value{kind: Float64, bits: math.Float64bits(f)} }

// TextValue returns a Text over b, which it does not copy.
func TextValue(b []byte) Value { return Value{kind: Text, text: b} }

// TimeValue returns a Time.
func TimeValue(t time.Time) Value {
	return Value{kind: Time, bits: uint64(t.Unix()), nsec: uint32(t.Nanosecond())}
}

// Kind returns which member v holds.
func (v Value) Kind() Kind { return v.kind }

// IsNull tells whether v is SQL's NULL.
func (v Value) IsNull() bool { return v.kind == Null }
