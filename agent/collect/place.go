package collect

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sql2metrics/sources"
)

// place is where a row stands by its cursor column. The zero place is before
// all others. Places can be compared with ==.
type place struct {
	kind placeKind
	n    int64   // of placeInteger; of times, Unix nanoseconds
	f    float64 // of placeFloat, never NaN
	text string  // of placeText and placeTimeText: as the row has it
}

type placeKind uint8

const (
	placeNone     placeKind = iota
	placeInteger            // a number
	placeFloat              // likewise
	placeTime               // a database type of times
	placeTimeText           // a text that is a time
	placeText
)

// startPlace is the place that cursor.start names.
func startPlace(start string) place {
	if n, err := strconv.ParseInt(start, 10, 64); err == nil {
		return place{kind: placeInteger, n: n}
	}
	if f, err := strconv.ParseFloat(start, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		return place{kind: placeFloat, f: f}
	}
	return textPlace(start)
}

func textPlace(text string) place {
	if t, _, ok := parseTime(text, time.UTC); ok {
		return place{kind: placeTimeText, n: nanoseconds(t), text: text}
	}
	return place{kind: placeText, text: text}
}

// nanoseconds saturates: an int64 reaches from 1677 to 2262.
func nanoseconds(t time.Time) int64 {
	switch year := t.UTC().Year(); {
	case year <= 1677:
		return math.MinInt64
	case year >= 2262:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// placeOf reads a cell that is not NULL; false: rows cannot be ordered by it,
// or it cannot be written into every database's SQL without harm. A text is a
// number where the cursor starts at one.
func placeOf(v sources.Value, start place) (place, bool) {
	switch v.Kind() {
	case sources.Int64, sources.Uint64:
		n, err := strconv.ParseInt(string(v.AppendText(nil)), 10, 64)
		return place{kind: placeInteger, n: n}, err == nil
	case sources.Float64:
		f, _ := v.Float()
		return place{kind: placeFloat, f: f}, !math.IsNaN(f) && !math.IsInf(f, 0)
	case sources.Time:
		t, err := time.Parse(time.RFC3339Nano, string(v.AppendText(nil)))
		return place{kind: placeTime, n: nanoseconds(t)}, err == nil
	case sources.Text:
		text := v.AppendText(nil)
		if !utf8.Valid(text) || bytes.ContainsAny(text, "\\\x00") {
			return place{}, false
		}
		if start.isNumber() {
			if p := startPlace(string(text)); p.isNumber() {
				return p, true
			}
		}
		return textPlace(string(text)), true
	}
	return place{}, false
}

func (p place) isNumber() bool { return p.kind == placeInteger || p.kind == placeFloat }
func (p place) isTime() bool   { return p.kind == placeTime || p.kind == placeTimeText }

// class is what a place is, as a sentence has it. Only places of one class say
// which of two rows is the later one.
func (p place) class() string {
	switch {
	case p.isNumber():
		return "number"
	case p.isTime():
		return "time"
	case p.kind == placeText:
		return "text"
	}
	return ""
}

// compare orders numbers before times before texts.
func (p place) compare(o place) int {
	switch {
	case p.kind == placeInteger && o.kind == placeInteger:
		return cmp.Compare(p.n, o.n)
	case p.isNumber() && o.isNumber():
		return cmp.Compare(p.number(), o.number())
	case p.isTime() && o.isTime():
		return cmp.Or(cmp.Compare(p.n, o.n), strings.Compare(p.text, o.text))
	case p.kind == placeText && o.kind == placeText:
		return strings.Compare(p.text, o.text)
	}
	return cmp.Compare(p.kind, o.kind)
}

func (p place) number() float64 {
	if p.kind == placeInteger {
		return float64(p.n)
	}
	return p.f
}

// before returns the place that lies so far before p: in units of numbers, in
// seconds of times. A text that is a time stays in its layout, which may take
// it back a little further. Other texts have no distances.
func (p place) before(distance float64) place {
	if distance == 0 {
		return p
	}
	switch p.kind {
	case placeInteger:
		p.n = minus(p.n, math.Ceil(distance))
	case placeFloat:
		p.f -= distance
	case placeTime:
		p.n = minus(p.n, distance*1e9)
	case placeTimeText:
		t, layout, _ := parseTime(p.text, time.UTC)
		t = t.Add(-time.Duration(minus(0, -distance*1e9)))
		if b := textPlace(t.Format(layout)); b.isTime() { // not before the year 0
			return b
		}
	}
	return p
}

// minus saturates.
func minus(n int64, distance float64) int64 {
	if distance >= math.MaxInt64 {
		return math.MinInt64
	}
	if d := n - int64(distance); d <= n || distance < 0 {
		return d
	}
	return math.MinInt64
}

// literal is the place as SQL has it.
func (p place) literal() string {
	switch p.kind {
	case placeInteger:
		return strconv.FormatInt(p.n, 10)
	case placeFloat:
		return strconv.FormatFloat(p.f, 'f', -1, 64)
	case placeTime:
		return time.Unix(0, p.n).UTC().Format("'2006-01-02 15:04:05.999999999+00:00'")
	}
	return quote(p.text)
}

// quote writes a text as a string of SQL.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// appendTo appends p for stateReader.place to read, which is given the same
// base: a place nearby takes a few bytes. Only that of none begins with a zero.
func (p place) appendTo(b []byte, base place) []byte {
	b = append(b, byte(p.kind))
	switch p.kind {
	case placeInteger, placeTime:
		return binary.AppendVarint(b, p.n-base.n)
	case placeFloat:
		return appendFloat(b, p.f)
	case placeTimeText, placeText:
		return appendText(b, p.text)
	}
	return b
}

func (r *stateReader) place(base place) place {
	p := place{kind: placeKind(r.byte())}
	switch p.kind {
	case placeNone:
	case placeInteger, placeTime:
		p.n = base.n + r.varint()
	case placeFloat:
		p.f = r.float()
		r.bad = r.bad || math.IsNaN(p.f)
	case placeTimeText:
		p = textPlace(r.text())
		r.bad = r.bad || p.kind != placeTimeText
	case placeText:
		p.text = r.text()
	default:
		r.bad = true
	}
	if r.bad {
		r.b = nil
		return place{}
	}
	return p
}
