package sources

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"
)

// maxJSONDepth is how deep a document may nest. What checks a document and what
// changes it by a path recurses, and a stack that has run out ends the process.
const maxJSONDepth = 1000

// errJSONDepth is for a document that nests deeper.
var errJSONDepth = fmt.Errorf("its JSON nests more than %d deep", maxJSONDepth)

// checkJSON tells what keeps a document from being JSON, and where.
func checkJSON(document string) error {
	if tooDeep(document) {
		return errJSONDepth
	}
	if gjson.Valid(document) {
		return nil
	}
	// Only who says where something is wrong is slow.
	var wrong *json.SyntaxError
	err := json.Unmarshal(unsafe.Slice(unsafe.StringData(document), len(document)), new(json.RawMessage))
	switch {
	case strings.TrimSpace(document) == "":
		return errors.New("it is empty")
	case !errors.As(err, &wrong):
		return errors.New("its JSON is malformed")
	case wrong.Offset >= int64(len(document)) && strings.HasPrefix(wrong.Error(), "unexpected end"):
		return fmt.Errorf("its JSON is cut off after %d bytes", len(document))
	}
	return fmt.Errorf("its JSON is wrong at byte %d: %w", wrong.Offset, wrong)
}

// tooDeep tells whether anything in document may nest deeper than maxJSONDepth.
func tooDeep(document string) bool {
	depth := 0
	for i := 0; i < len(document); i++ {
		switch document[i] {
		case '"':
			i = skipString(document, i) - 1
		case '{', '[':
			if depth++; depth > maxJSONDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// The functions below read what checkJSON has let pass, or a part of it.

// jsonSpace is the white space of JSON.
const jsonSpace = " \t\r\n"

// skipSpace returns where the white space that begins at i has ended.
func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

// skipString returns where the string that begins at i has ended.
func skipString(s string, i int) int {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

// skipValue returns where the value that begins at i has ended.
func skipValue(s string, i int) int {
	switch s[i] {
	case '"':
		return skipString(s, i)
	case '{', '[':
		depth := 0
		for ; i < len(s); i++ {
			switch s[i] {
			case '"':
				i = skipString(s, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return len(s)
	}
	for i < len(s) && s[i] > ' ' && s[i] != ',' && s[i] != ']' && s[i] != '}' {
		i++
	}
	return i
}

// jsonWalk goes through the elements of an array, or the members of an object.
type jsonWalk struct {
	text string
	at   int
}

// walkJSON begins at the first element or member of text, which is an array or
// an object.
func walkJSON(text string) jsonWalk { return jsonWalk{text, 1} }

// next returns the next element or member as the document spells them; name is
// empty in an array and has its quotes in an object.
func (w *jsonWalk) next() (name, value string, ok bool) {
	i := skipSpace(w.text, w.at)
	if i < len(w.text) && w.text[i] == ',' {
		i = skipSpace(w.text, i+1)
	}
	if i >= len(w.text) || w.text[i] == ']' || w.text[i] == '}' {
		return "", "", false
	}
	if w.text[0] == '{' {
		end := skipString(w.text, i)
		name = w.text[i:end]
		i = skipSpace(w.text, end) // the colon
		i = skipSpace(w.text, min(i+len(":"), len(w.text)-1))
	}
	w.at = skipValue(w.text, i)
	return name, w.text[i:w.at], true
}

// jsonCell returns the value that raw spells, and texts. A text that has escapes
// is appended to those; any other lies in raw.
func jsonCell(raw string, texts []byte) (Value, []byte) {
	switch raw[0] {
	case 'n':
		return Value{}, texts
	case 't':
		return BoolValue(true), texts
	case 'f':
		return BoolValue(false), texts
	case '"':
		plain := strings.TrimSuffix(raw[1:], `"`)
		if strings.IndexByte(plain, '\\') < 0 {
			return textOver(plain), texts
		}
		from := len(texts)
		texts = appendUnescaped(texts, plain)
		return TextValue(texts[from:]), texts
	case '{', '[':
		return textOver(raw), texts
	}
	return jsonNumber(raw), texts
}

// textOver returns a Text over s, which it does not copy.
func textOver(s string) Value {
	return TextValue(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// jsonNumber returns the number that raw spells: an integer if it fits, a
// Float64 if that has the same value and is spelled the same way, and otherwise
// the Text of it, which is exact as a label.
func jsonNumber(raw string) Value {
	digits, negative := strings.CutPrefix(raw, "-")
	point := -1
	var mantissa uint64
	for i := range len(digits) {
		c := digits[i]
		if c == '.' {
			point = i
			continue
		}
		d := uint64(c - '0')
		if d > 9 || mantissa > (math.MaxUint64-d)/10 {
			return textOver(raw) // an exponent, or larger than any integer
		}
		mantissa = mantissa*10 + d
	}
	switch {
	case point >= 0:
		return jsonFraction(raw, digits, mantissa, point, negative)
	case !negative && mantissa > math.MaxInt64:
		return UintValue(mantissa)
	case !negative:
		return IntValue(int64(mantissa))
	case mantissa == 0 || mantissa > 1<<63:
		return textOver(raw) // -0 is no integer
	}
	return IntValue(-int64(mantissa))
}

// Of a number with a fraction as short as these say, both the digits and the
// power of ten that divides them are exact as a float64, and so the quotient is
// the float64 closest to it. Prometheus spells it with the same digits and
// without an exponent.
const (
	maxExactDigits = 15
	maxWholeDigits = 6
	minFraction    = 1e-4
)

func jsonFraction(raw, digits string, mantissa uint64, point int, negative bool) Value {
	places := len(digits) - point - 1
	if len(digits)-1 > maxExactDigits || point > maxWholeDigits || digits[len(digits)-1] == '0' {
		return textOver(raw)
	}
	power := 1.0
	for range places {
		power *= 10
	}
	f := float64(mantissa) / power
	if f < minFraction {
		return textOver(raw)
	}
	if negative {
		f = -f
	}
	return FloatValue(f)
}

// appendUnescaped appends what the inside of a JSON string says. Half a
// surrogate pair becomes U+FFFD.
func appendUnescaped(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+1 >= len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		escape := s[i+1]
		s = s[i+2:]
		if escape == 'u' {
			r := hexRune(s)
			s = s[min(4, len(s)):]
			if utf16.IsSurrogate(r) {
				low := rune(utf8.RuneError)
				if strings.HasPrefix(s, `\u`) {
					low = hexRune(s[2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					s = s[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		if at := bytes.IndexByte([]byte(`bfnrt`), escape); at >= 0 {
			escape = "\b\f\n\r\t"[at]
		}
		dst = append(dst, escape)
	}
}

// hexRune returns what the four digits at the beginning of s say.
func hexRune(s string) rune {
	if len(s) < 4 {
		return utf8.RuneError
	}
	var r rune
	for _, c := range []byte(s[:4]) {
		switch {
		case c <= '9':
			c -= '0'
		case c <= 'F':
			c -= 'A' - 10
		default:
			c -= 'a' - 10
		}
		r = r<<4 | rune(c&0xf)
	}
	return r
}
