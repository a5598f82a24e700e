package sources

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// The formats in which the server can send a column.
const (
	textFormat   int16 = 0
	binaryFormat int16 = 1
)

// allBinary asks for every column in binary: one code stands for all.
var allBinary = []int16{binaryFormat}

// pgDecoder makes a Value of a column's bytes. What it has to spell out it
// appends to scratch, which it returns. It keeps nothing and allocates
// nothing else.
type pgDecoder func(src, scratch []byte) (Value, []byte, error)

// binaryDecoder returns the decoder for the binary form of a type, or nil: a
// type without one is asked for as text and becomes a Text, as psql would
// show it. That is right for arrays, enums, inet, uuid, money and all types
// of extensions.
func binaryDecoder(oid uint32) pgDecoder {
	switch oid {
	case 16: // bool
		return decodeBool
	case 18, 19, 25, 114, 142, 705, 1042, 1043: // "char" name text json xml unknown bpchar varchar
		return decodeText
	case 20, 21, 23: // int8 int2 int4
		return decodeInt
	case 26, 28, 29, 5069: // oid xid cid xid8
		return decodeUint
	case 700, 701: // float4 float8
		return decodeFloat
	case 1082: // date
		return decodeDate
	case 1114, 1184: // timestamp timestamptz
		return decodeTimestamp
	case 1186: // interval
		return decodeInterval
	case 1700: // numeric
		return decodeNumeric
	case 3802: // jsonb
		return decodeJSONB
	}
	return nil
}

// resultFormats returns the formats in which fields can be read.
func resultFormats(fields []pgconn.FieldDescription) []int16 {
	formats := make([]int16, len(fields))
	for i, f := range fields {
		if binaryDecoder(f.DataTypeOID) != nil {
			formats[i] = binaryFormat
		}
	}
	return formats
}

func hasFormat(format int16, f pgconn.FieldDescription) bool { return f.Format == format }

// prepareRow makes c.row fit for rows of fields.
func (c *pgConn) prepareRow(fields []pgconn.FieldDescription) {
	c.row = Row{Columns: make([]string, len(fields)), Values: make([]Value, len(fields))}
	c.decode = make([]pgDecoder, len(fields))
	for i, f := range fields {
		c.row.Columns[i] = f.Name
		c.decode[i] = decodeText
		if f.Format == binaryFormat {
			c.decode[i] = binaryDecoder(f.DataTypeOID)
		}
	}
}

// decodeRow fills c.row from the bytes of one row.
func (c *pgConn) decodeRow(values [][]byte) error {
	if len(values) != len(c.decode) {
		return fmt.Errorf("read row: it has %d columns, the result %d", len(values), len(c.decode))
	}
	c.scratch = c.scratch[:0]
	for i, src := range values {
		if src == nil {
			c.row.Values[i] = Value{}
			continue
		}
		var err error
		if c.row.Values[i], c.scratch, err = c.decode[i](src, c.scratch); err != nil {
			return fmt.Errorf("read column %s: %w", c.row.Columns[i], err)
		}
	}
	return nil
}

var errBinary = errors.New("malformed binary value")

func decodeBool(src, scratch []byte) (Value, []byte, error) {
	if len(src) != 1 {
		return Value{}, scratch, errBinary
	}
	return BoolValue(src[0] != 0), scratch, nil
}

func decodeText(src, scratch []byte) (Value, []byte, error) {
	return TextValue(src), scratch, nil
}

func decodeInt(src, scratch []byte) (Value, []byte, error) {
	switch len(src) {
	case 2:
		return IntValue(int64(int16(binary.BigEndian.Uint16(src)))), scratch, nil
	case 4:
		return IntValue(int64(int32(binary.BigEndian.Uint32(src)))), scratch, nil
	case 8:
		return IntValue(int64(binary.BigEndian.Uint64(src))), scratch, nil
	}
	return Value{}, scratch, errBinary
}

func decodeUint(src, scratch []byte) (Value, []byte, error) {
	switch len(src) {
	case 4:
		return UintValue(uint64(binary.BigEndian.Uint32(src))), scratch, nil
	case 8:
		return UintValue(binary.BigEndian.Uint64(src)), scratch, nil
	}
	return Value{}, scratch, errBinary
}

// decodeFloat gives a float4 the shortest decimal that stands for it, as
// PostgreSQL prints it, and not the digits that widening its bits would add.
func decodeFloat(src, scratch []byte) (Value, []byte, error) {
	switch len(src) {
	case 4:
		narrow := math.Float32frombits(binary.BigEndian.Uint32(src))
		start := len(scratch)
		scratch = strconv.AppendFloat(scratch, float64(narrow), 'g', -1, 32)
		wide, err := parseNumber(scratch[start:])
		return FloatValue(wide), scratch[:start], err
	case 8:
		return FloatValue(math.Float64frombits(binary.BigEndian.Uint64(src))), scratch, nil
	}
	return Value{}, scratch, errBinary
}

func decodeJSONB(src, scratch []byte) (Value, []byte, error) {
	if len(src) < 1 || src[0] != 1 {
		return Value{}, scratch, errBinary
	}
	return TextValue(src[1:]), scratch, nil
}

// pgEpoch is 2000-01-01 in Unix seconds: PostgreSQL counts time from there.
const pgEpoch = 946684800

const secondsPerDay = 24 * 60 * 60

// decodeTimestamp takes a timestamp without time zone as UTC.
func decodeTimestamp(src, scratch []byte) (Value, []byte, error) {
	if len(src) != 8 {
		return Value{}, scratch, errBinary
	}
	micros := int64(binary.BigEndian.Uint64(src))
	if v, ok := infinite(micros, math.MinInt64, math.MaxInt64); ok {
		return v, scratch, nil
	}
	seconds := micros / 1e6
	micros %= 1e6
	return TimeValue(time.Unix(pgEpoch+seconds, micros*1e3)), scratch, nil
}

func decodeDate(src, scratch []byte) (Value, []byte, error) {
	if len(src) != 4 {
		return Value{}, scratch, errBinary
	}
	days := int64(int32(binary.BigEndian.Uint32(src)))
	if v, ok := infinite(days, math.MinInt32, math.MaxInt32); ok {
		return v, scratch, nil
	}
	return TimeValue(time.Unix(pgEpoch+days*secondsPerDay, 0)), scratch, nil
}

// infinite returns the infinity for which a type's extreme values stand.
func infinite(v, minus, plus int64) (Value, bool) {
	switch v {
	case minus:
		return FloatValue(math.Inf(-1)), true
	case plus:
		return FloatValue(math.Inf(1)), true
	}
	return Value{}, false
}

// decodeInterval returns seconds, with months and years as long as
// EXTRACT(epoch FROM …) takes them: 30 and 365.25 days.
func decodeInterval(src, scratch []byte) (Value, []byte, error) {
	if len(src) != 16 {
		return Value{}, scratch, errBinary
	}
	micros := int64(binary.BigEndian.Uint64(src))
	days := int64(int32(binary.BigEndian.Uint32(src[8:])))
	months := int64(int32(binary.BigEndian.Uint32(src[12:])))
	if v, ok := infinite(micros, math.MinInt64, math.MaxInt64); ok && (days == math.MinInt32 || days == math.MaxInt32) {
		return v, scratch, nil
	}
	const year = 365.25 * secondsPerDay
	seconds := float64(months/12)*year + float64((months%12*30+days)*secondsPerDay) + float64(micros)/1e6
	return FloatValue(seconds), scratch, nil
}

// The signs of a numeric.
const (
	numericPlus  = 0x0000
	numericMinus = 0x4000
	numericNaN   = 0xC000
	numericInf   = 0xD000
	numericNInf  = 0xF000
)

// decodeNumeric spells a numeric out exactly, as a label needs it. On the
// wire it is digits to the base 10000, the weight of the first, a sign and
// the number of decimals to show.
func decodeNumeric(src, scratch []byte) (Value, []byte, error) {
	if len(src) < 8 {
		return Value{}, scratch, errBinary
	}
	count := int(binary.BigEndian.Uint16(src))
	weight := int(int16(binary.BigEndian.Uint16(src[2:])))
	sign := binary.BigEndian.Uint16(src[4:])
	scale := int(int16(binary.BigEndian.Uint16(src[6:])))
	digits := src[8:]
	if len(digits) != 2*count || scale < 0 {
		return Value{}, scratch, errBinary
	}
	group := func(i int) uint16 {
		if i < 0 || i >= count {
			return 0
		}
		return binary.BigEndian.Uint16(digits[2*i:])
	}

	start := len(scratch)
	switch sign {
	case numericPlus:
	case numericMinus:
		scratch = append(scratch, '-')
	case numericNaN:
		return FloatValue(math.NaN()), scratch, nil
	case numericInf:
		return FloatValue(math.Inf(1)), scratch, nil
	case numericNInf:
		return FloatValue(math.Inf(-1)), scratch, nil
	default:
		return Value{}, scratch, errBinary
	}
	if weight < 0 {
		scratch = append(scratch, '0')
	} else {
		scratch = strconv.AppendUint(scratch, uint64(group(0)), 10)
	}
	for i := 1; i <= weight; i++ {
		scratch = appendGroup(scratch, group(i))
	}
	if scale > 0 {
		scratch = append(scratch, '.')
		point := len(scratch)
		for i := weight + 1; len(scratch) < point+scale; i++ {
			scratch = appendGroup(scratch, group(i))
		}
		scratch = scratch[:point+scale]
	}
	return TextValue(scratch[start:]), scratch, nil
}

func appendGroup(dst []byte, g uint16) []byte {
	return append(dst, '0'+byte(g/1000%10), '0'+byte(g/100%10), '0'+byte(g/10%10), '0'+byte(g%10))
}
