package sources

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// chCell makes a Value of the bytes of one cell. What it has to spell out it
// appends to scratch, which it returns. It keeps nothing and allocates nothing
// else.
type chCell func(src, scratch []byte) (Value, []byte)

// chTypeDepth bounds how deep types may be nested.
const chTypeDepth = 32

// chTypeError says that a column has a type that cannot be read.
type chTypeError struct{ typ string }

func (e *chTypeError) Error() string {
	const longest = 100
	if len(e.typ) > longest {
		e.typ = e.typ[:longest] + "…"
	}
	return "type " + chLine(e.typ) + " cannot be read; select toString of it"
}

// chColumnOf returns an empty column of the type that the server spells typ.
func chColumnOf(typ string) (chColumn, error) { return chNested(typ, chTypeDepth) }

func chNested(typ string, depth int) (chColumn, error) {
	name, args, ok := chSplitType(typ)
	if !ok || depth == 0 {
		return nil, &chTypeError{typ}
	}
	elements := func() ([]chColumn, error) {
		columns := make([]chColumn, len(args))
		for i, arg := range args {
			var err error
			if columns[i], err = chNested(chElementType(arg), depth-1); err != nil {
				return nil, err
			}
		}
		return columns, nil
	}
	switch {
	case name == "String" && len(args) == 0:
		return &chString{}, nil
	case name == "JSON":
		return &chJSON{}, nil
	case name == "SimpleAggregateFunction" && len(args) > 1:
		return chNested(args[len(args)-1], depth-1)
	case name == "Nullable" && len(args) == 1:
		of, err := chNested(args[0], depth-1)
		return &chNullable{of: of}, err
	case name == "LowCardinality" && len(args) == 1:
		inner, nullable := strings.CutPrefix(args[0], "Nullable(")
		if nullable {
			inner = strings.TrimSuffix(inner, ")")
		}
		of, err := chNested(inner, depth-1)
		return &chLowCardinality{dictionary: of, nullable: nullable}, err
	case name == "Array" && len(args) == 1:
		of, err := chNested(args[0], depth-1)
		return &chArray{of: of, begin: '[', end: ']'}, err
	case name == "Tuple" && len(args) > 0:
		of, err := elements()
		return &chTuple{of: of, begin: '(', between: ',', end: ')'}, err
	case name == "Map" && len(args) == 2:
		of, err := elements()
		return &chArray{of: &chTuple{of: of, between: ':'}, begin: '{', end: '}'}, err
	case name == "Nested" && len(args) > 0:
		of, err := elements()
		return &chArray{of: &chTuple{of: of, begin: '(', between: ',', end: ')'}, begin: '[', end: ']'}, err
	case name == "Variant" && len(args) > 0:
		of, err := elements()
		return &chVariant{of: of}, err
	}
	if alias, ok := chAliases[typ]; ok {
		return chNested(alias, depth-1)
	}
	if fixed := chFixedOf(name, args); fixed != nil {
		return fixed, nil
	}
	return nil, &chTypeError{typ}
}

// chAliases are the types that are other types by name only.
var chAliases = map[string]string{
	"Point":           "Tuple(Float64, Float64)",
	"Ring":            "Array(Point)",
	"LineString":      "Array(Point)",
	"MultiLineString": "Array(LineString)",
	"Polygon":         "Array(Ring)",
	"MultiPolygon":    "Array(Polygon)",
}

// chFixedOf returns the column of a type whose cells are all of one width, or
// nil.
func chFixedOf(name string, args []string) *chFixed {
	switch len(args) {
	case 0:
		if fixed, ok := chPlain[name]; ok {
			return &fixed
		}
		if strings.HasPrefix(name, "Interval") {
			return &chFixed{width: 8, cell: chInt}
		}
	case 1:
		n, err := strconv.Atoi(args[0])
		switch {
		case name == "DateTime":
			return &chFixed{width: 4, cell: chSeconds, quoted: true}
		case err != nil || n < 0:
		case name == "DateTime64" && n <= 9:
			return &chFixed{width: 8, cell: chTicks(n), quoted: true}
		case name == "Time64" && n <= 9:
			return &chFixed{width: 8, cell: chDecimal(n)}
		case name == "FixedString" && n > 0 && n <= chMaxBlock:
			return &chFixed{width: n, cell: chPadded, quoted: true}
		}
	case 2:
		n, err := strconv.Atoi(args[0])
		scale, scaleErr := strconv.Atoi(args[1])
		switch {
		case err != nil || n < 0:
		case name == "DateTime64" && n <= 9:
			return &chFixed{width: 8, cell: chTicks(n), quoted: true}
		case name != "Decimal" || scaleErr != nil || scale < 0 || scale > n:
		case n <= 9:
			return &chFixed{width: 4, cell: chDecimal(scale)}
		case n <= 18:
			return &chFixed{width: 8, cell: chDecimal(scale)}
		case n <= 38:
			return &chFixed{width: 16, cell: chDecimal(scale)}
		case n <= 76:
			return &chFixed{width: 32, cell: chDecimal(scale)}
		}
	}
	if name == "Enum8" || name == "Enum16" {
		if names := chEnumNames(args); names != nil {
			return &chFixed{width: map[string]int{"Enum8": 1, "Enum16": 2}[name], cell: chEnum(names), quoted: true}
		}
	}
	return nil
}

// chPlain are the types that have no parameters.
var chPlain = map[string]chFixed{
	"UInt8":    {width: 1, cell: chUint},
	"UInt16":   {width: 2, cell: chUint},
	"UInt32":   {width: 4, cell: chUint},
	"UInt64":   {width: 8, cell: chUint},
	"UInt128":  {width: 16, cell: chBigUint},
	"UInt256":  {width: 32, cell: chBigUint},
	"Int8":     {width: 1, cell: chInt},
	"Int16":    {width: 2, cell: chInt},
	"Int32":    {width: 4, cell: chInt},
	"Int64":    {width: 8, cell: chInt},
	"Int128":   {width: 16, cell: chDecimal(0)},
	"Int256":   {width: 32, cell: chDecimal(0)},
	"BFloat16": {width: 2, cell: chBrainFloat},
	"Float32":  {width: 4, cell: chFloat32},
	"Float64":  {width: 8, cell: chFloat64},
	"Bool":     {width: 1, cell: chBool},
	"Date":     {width: 2, cell: chDays, quoted: true},
	"Date32":   {width: 4, cell: chSignedDays, quoted: true},
	"DateTime": {width: 4, cell: chSeconds, quoted: true},
	"Time":     {width: 4, cell: chInt},
	"UUID":     {width: 16, cell: chUUID, quoted: true},
	"IPv4":     {width: 4, cell: chIPv4, quoted: true},
	"IPv6":     {width: 16, cell: chIPv6, quoted: true},
	"Nothing":  {width: 1, cell: chNothing},
}

func chNothing(_, scratch []byte) (Value, []byte) { return Value{}, scratch }

func chBool(src, scratch []byte) (Value, []byte) { return BoolValue(src[0] != 0), scratch }

// chUnsigned reads up to eight bytes, the lowest first.
func chUnsigned(src []byte) uint64 {
	switch len(src) {
	case 1:
		return uint64(src[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(src))
	case 4:
		return uint64(binary.LittleEndian.Uint32(src))
	}
	return binary.LittleEndian.Uint64(src)
}

// chSigned is chUnsigned for a two's complement.
func chSigned(src []byte) int64 {
	unused := 64 - 8*len(src)
	return int64(chUnsigned(src)<<unused) >> unused
}

func chUint(src, scratch []byte) (Value, []byte) { return UintValue(chUnsigned(src)), scratch }

func chInt(src, scratch []byte) (Value, []byte) { return IntValue(chSigned(src)), scratch }

func chFloat64(src, scratch []byte) (Value, []byte) {
	return FloatValue(math.Float64frombits(chUnsigned(src))), scratch
}

// chFloat32 gives the shortest decimal that stands for the number, as
// ClickHouse prints it, and not the digits that widening its bits would add.
func chFloat32(src, scratch []byte) (Value, []byte) {
	return chShortest(math.Float32frombits(binary.LittleEndian.Uint32(src)), scratch)
}

// chBrainFloat reads the upper half of a float32.
func chBrainFloat(src, scratch []byte) (Value, []byte) {
	return FloatValue(float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(src)) << 16))), scratch
}

func chShortest(narrow float32, scratch []byte) (Value, []byte) {
	start := len(scratch)
	scratch = strconv.AppendFloat(scratch, float64(narrow), 'g', -1, 32)
	wide, err := parseNumber(scratch[start:])
	if err != nil {
		wide = float64(narrow)
	}
	return FloatValue(wide), scratch[:start]
}

func chDays(src, scratch []byte) (Value, []byte) {
	return TimeValue(time.Unix(int64(chUnsigned(src))*secondsPerDay, 0)), scratch
}

func chSignedDays(src, scratch []byte) (Value, []byte) {
	return TimeValue(time.Unix(chSigned(src)*secondsPerDay, 0)), scratch
}

func chSeconds(src, scratch []byte) (Value, []byte) {
	return TimeValue(time.Unix(int64(chUnsigned(src)), 0)), scratch
}

// chTicks reads times that count in units of 10 to the power of -digits
// seconds. Where the zone of a column is told it changes what is printed, not
// the instant.
func chTicks(digits int) chCell {
	perSecond := int64(math.Pow10(digits))
	return func(src, scratch []byte) (Value, []byte) {
		ticks := chSigned(src)
		seconds, rest := ticks/perSecond, ticks%perSecond
		return TimeValue(time.Unix(seconds, rest*(1e9/perSecond))), scratch
	}
}

// chPadded cuts the zero bytes with which a FixedString is filled up.
func chPadded(src, scratch []byte) (Value, []byte) {
	end := len(src)
	for end > 0 && src[end-1] == 0 {
		end--
	}
	return TextValue(src[:end]), scratch
}

// chUUID reads two halves, each with its lowest byte first.
func chUUID(src, scratch []byte) (Value, []byte) {
	const digits = "0123456789abcdef"
	start := len(scratch)
	for i := range 16 {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			scratch = append(scratch, '-')
		}
		b := src[i&8+7-i&7]
		scratch = append(scratch, digits[b>>4], digits[b&15])
	}
	return TextValue(scratch[start:]), scratch
}

func chIPv4(src, scratch []byte) (Value, []byte) {
	start := len(scratch)
	scratch = netip.AddrFrom4([4]byte{src[3], src[2], src[1], src[0]}).AppendTo(scratch)
	return TextValue(scratch[start:]), scratch
}

func chIPv6(src, scratch []byte) (Value, []byte) {
	start := len(scratch)
	scratch = netip.AddrFrom16([16]byte(src)).AppendTo(scratch)
	return TextValue(scratch[start:]), scratch
}

func chBigUint(src, scratch []byte) (Value, []byte) {
	start := len(scratch)
	scratch = chAppendInteger(scratch, src, false, 0)
	return TextValue(scratch[start:]), scratch
}

// chDecimal spells an integer of any width out exactly, with a point before
// the last digits.
func chDecimal(scale int) chCell {
	return func(src, scratch []byte) (Value, []byte) {
		start := len(scratch)
		scratch = chAppendInteger(scratch, src, true, scale)
		return TextValue(scratch[start:]), scratch
	}
}

// chAppendInteger appends an integer of up to 32 bytes, its lowest first, as a
// decimal with scale digits behind the point.
func chAppendInteger(dst, src []byte, signed bool, scale int) []byte {
	var words [4]uint64
	last := src[len(src)-1]
	negative := signed && last&0x80 != 0
	for i := range 8 * len(words) {
		b := byte(0)
		switch {
		case i < len(src):
			b = src[i]
		case negative:
			b = 0xff
		}
		words[i/8] |= uint64(b) << (8 * (i % 8))
	}
	if negative {
		dst = append(dst, '-')
		carry := uint64(1)
		for i := range words {
			words[i], carry = bits.Add64(^words[i], 0, carry)
		}
	}
	// The digits come out last first. 2^256 has 78 of them.
	var digits [80]byte
	at := len(digits)
	for words != [4]uint64{} || len(digits)-at <= scale {
		rest := uint64(0)
		for i := len(words) - 1; i >= 0; i-- {
			words[i], rest = bits.Div64(rest, words[i], 10)
		}
		at--
		digits[at] = '0' + byte(rest)
	}
	point := len(digits) - scale
	dst = append(dst, digits[at:point]...)
	if scale > 0 {
		dst = append(dst, '.')
		dst = append(dst, digits[point:]...)
	}
	return dst
}

// chEnum gives the name of a value, or the number where the type has none for
// it.
func chEnum(names map[int64][]byte) chCell {
	return func(src, scratch []byte) (Value, []byte) {
		n := chSigned(src)
		if name, ok := names[n]; ok {
			return TextValue(name), scratch
		}
		return IntValue(n), scratch
	}
}

// chEnumNames reads the parameters 'a' = 1, 'b' = 2 of an enum.
func chEnumNames(args []string) map[int64][]byte {
	names := make(map[int64][]byte, len(args))
	for _, arg := range args {
		equals := strings.LastIndexByte(arg, '=')
		if equals < 0 {
			return nil
		}
		quoted := strings.TrimSpace(arg[:equals])
		n, err := strconv.ParseInt(strings.TrimSpace(arg[equals+1:]), 10, 16)
		if err != nil || len(quoted) < 2 || quoted[0] != '\'' || quoted[len(quoted)-1] != '\'' {
			return nil
		}
		names[n] = chUnquote(quoted[1 : len(quoted)-1])
	}
	return names
}

// chUnquote undoes the backslashes of a quoted name.
func chUnquote(quoted string) []byte {
	name := make([]byte, 0, len(quoted))
	for i := 0; i < len(quoted); i++ {
		c := quoted[i]
		if c == '\\' && i+1 < len(quoted) {
			i++
			c = quoted[i]
			if at := strings.IndexByte("bfnrt0", c); at >= 0 {
				c = "\b\f\n\r\t\x00"[at]
			}
		}
		name = append(name, c)
	}
	return name
}

// chSplitType takes "Name(a, b)" apart. What stands in quotes, backquotes or
// further parentheses is left whole.
func chSplitType(typ string) (name string, args []string, ok bool) {
	name, rest, found := strings.Cut(typ, "(")
	if !found {
		return typ, nil, typ != ""
	}
	if !strings.HasSuffix(rest, ")") {
		return "", nil, false
	}
	rest = rest[:len(rest)-1]
	for {
		end := chOutside(rest, ',')
		if end < 0 {
			return name, append(args, strings.TrimSpace(rest)), true
		}
		args = append(args, strings.TrimSpace(rest[:end]))
		rest = rest[end+1:]
	}
}

// chElementType returns the type of an element of a tuple, which may have a
// name before it.
func chElementType(element string) string {
	if space := chOutside(element, ' '); space >= 0 {
		return strings.TrimSpace(element[space+1:])
	}
	return element
}

// chOutside returns where c first stands outside of quotes and parentheses, or
// -1.
func chOutside(s string, c byte) int {
	depth, quote := 0, byte(0)
	for i := 0; i < len(s); i++ {
		switch {
		case quote != 0 && s[i] == '\\':
			i++
		case quote != 0:
			if s[i] == quote {
				quote = 0
			}
		case s[i] == c && depth == 0:
			return i
		case s[i] == '\'' || s[i] == '`':
			quote = s[i]
		case s[i] == '(':
			depth++
		case s[i] == ')':
			depth--
		}
	}
	return -1
}

// errCHBlock says that the bytes of a block contradict each other.
var errCHBlock = errors.New("malformed block; is this a ClickHouse server?")

func chMalformed(what string) error { return fmt.Errorf("%w (%s)", errCHBlock, what) }

// chOffsets reads rows offsets, each not below the one before.
func chOffsets(r *chReader, into []uint32, rows int) ([]uint32, error) {
	const width, atOnce = 8, chChunk / 8
	if err := r.enough(rows * width); err != nil {
		return into, err
	}
	if err := r.charge(rows * chNumber); err != nil {
		return into, err
	}
	into = into[:0]
	for last := uint64(0); len(into) < rows; {
		data, err := r.bytes(min(rows-len(into), atOnce) * width)
		if err != nil {
			return into, err
		}
		into = chGrow(into, rows-len(into), 0)
		for ; len(data) > 0; data = data[width:] {
			next := binary.LittleEndian.Uint64(data)
			if next < last || next > chMaxBlock {
				return into, chMalformed("offsets")
			}
			into, last = append(into, uint32(next)), next
		}
	}
	return into, nil
}
