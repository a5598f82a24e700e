package sources_test

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sql2metrics/sources"
)

// cells are values of all kinds with what a sample and a label make of them.
var cells = map[string]struct {
	value sources.Value
	float float64 // NaN: see number
	label string
	// number is "no" where Float has to refuse, "NaN" where it is one.
	number string
}{
	"null":           {sources.Value{}, 0, "", "no"},
	"true":           {sources.BoolValue(true), 1, "true", ""},
	"false":          {sources.BoolValue(false), 0, "false", ""},
	"int":            {sources.IntValue(-42), -42, "-42", ""},
	"smallest int":   {sources.IntValue(math.MinInt64), math.MinInt64, "-9223372036854775808", ""},
	"uint":           {sources.UintValue(math.MaxUint64), math.MaxUint64, "18446744073709551615", ""},
	"float":          {sources.FloatValue(0.1), 0.1, "0.1", ""},
	"large float":    {sources.FloatValue(1e6), 1e6, "1e+06", ""},
	"infinite":       {sources.FloatValue(math.Inf(1)), math.Inf(1), "+Inf", ""},
	"nan":            {sources.FloatValue(math.NaN()), 0, "NaN", "NaN"},
	"time":           {sources.TimeValue(time.Date(2026, 7, 1, 12, 0, 0, 500_000_000, time.FixedZone("", 7200))), 1782900000.5, "2026-07-01T10:00:00.5Z", ""},
	"time before 70": {sources.TimeValue(time.Date(1969, 12, 31, 23, 59, 59, 250_000_000, time.UTC)), -0.75, "1969-12-31T23:59:59.25Z", ""},
	"decimal":        {text("12.50"), 12.5, "12.50", ""},
	"exponent":       {text("-1.5E-3"), -0.0015, "-1.5E-3", ""},
	"plus":           {text("+3"), 3, "+3", ""},
	"padded":         {text(" 7  "), 7, " 7  ", ""},
	"text true":      {text("TRUE"), 1, "TRUE", ""},
	"text f":         {text("f"), 0, "f", ""},
	"text nan":       {text("NaN"), 0, "NaN", "NaN"},
	"text infinity":  {text("infinity"), math.Inf(1), "infinity", ""},
	"text -Infinity": {text("-Infinity"), math.Inf(-1), "-Infinity", ""},
	"text +inf":      {text("+inf"), math.Inf(1), "+inf", ""},
	"empty":          {text(""), 0, "", "no"},
	"blank":          {text("  "), 0, "  ", "no"},
	"word":           {text("up"), 0, "up", "no"},
	"tail":           {text("12 MB"), 0, "12 MB", "no"},
	"hex":            {text("0x1p4"), 0, "0x1p4", "no"},
	"underscore":     {text("1_000"), 0, "1_000", "no"},
	"comma":          {text("1,5"), 0, "1,5", "no"},
	"two signs":      {text("--1"), 0, "--1", "no"},
	"sign":           {text("-"), 0, "-", "no"},
	"too large":      {text("1e400"), 0, "1e400", "too large"},
	"array":          {text("{1,2}"), 0, "{1,2}", "no"},
}

func text(s string) sources.Value { return sources.TextValue([]byte(s)) }

func TestValueFloat(t *testing.T) {
	for name, c := range cells {
		t.Run(name, func(t *testing.T) {
			got, err := c.value.Float()
			switch {
			case c.number == "no":
				if err != sources.ErrNotNumber {
					t.Errorf("Float is %v, %v", got, err)
				}
			case c.number == "too large":
				if err != sources.ErrTooLarge {
					t.Errorf("Float is %v, %v", got, err)
				}
			case err != nil:
				t.Error(err)
			case c.number == "NaN":
				if !math.IsNaN(got) {
					t.Errorf("Float is %v", got)
				}
			case got != c.float:
				t.Errorf("Float is %v, want %v", got, c.float)
			}
		})
	}
}

func TestValueAppendText(t *testing.T) {
	for name, c := range cells {
		t.Run(name, func(t *testing.T) {
			if got := string(c.value.AppendText([]byte("<"))); got != "<"+c.label {
				t.Errorf("label is %q, want %q", got, c.label)
			}
		})
	}
}

// Exactly is what arithmetic without rounding says.
func TestValueExactly(t *testing.T) {
	near := func(x int64) []int64 { return []int64{x - 2, x - 1, x, x + 1, x + 2} }
	whole := slices.Concat(near(0), near(1<<53), near(-1<<53), near(1<<62), []int64{math.MaxInt64, math.MinInt64, math.MinInt64 + 1})
	check := func(v sources.Value, n *big.Int) {
		t.Helper()
		x, err := v.Float()
		if err != nil {
			t.Fatal(err)
		}
		rounded, _ := big.NewFloat(x).Int(nil)
		if got, want := v.Exactly(x), rounded.Cmp(n) == 0; got != want {
			t.Errorf("%s as %.0f: got %v", n, x, got)
		}
	}
	for _, n := range whole {
		for _, written := range []string{"%d", " %d ", "%+021d"} {
			check(text(fmt.Sprintf(written, n)), big.NewInt(n))
		}
		check(sources.IntValue(n), big.NewInt(n))
		check(sources.UintValue(uint64(n)), new(big.Int).SetUint64(uint64(n)))
	}
	check(text("18446744073709551617"), new(big.Int).Add(new(big.Int).SetUint64(math.MaxUint64), big.NewInt(2)))
	for _, v := range []sources.Value{text("0.1"), text("1e300"), text("NaN"), text("-inf"), sources.FloatValue(1e300), sources.BoolValue(true)} {
		if x, err := v.Float(); err != nil || !v.Exactly(x) {
			t.Errorf("%s is not %v", v.AppendText(nil), x)
		}
	}
}

func TestValueAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 64)
	for name, c := range cells {
		// A number out of range is strconv's error, which is one allocation.
		if name == "too large" || name == "two signs" || name == "sign" {
			continue
		}
		if n := testing.AllocsPerRun(100, func() {
			_, _ = c.value.Float()
			buf = c.value.AppendText(buf[:0])
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func FuzzValue(f *testing.F) {
	for _, c := range cells {
		f.Add(c.value.AppendText(nil), int64(c.float), c.float)
	}
	f.Fuzz(func(t *testing.T, b []byte, i int64, x float64) {
		before := string(b)
		got, err := sources.TextValue(b).Float()
		if string(b) != before || string(sources.TextValue(b).AppendText(nil)) != before {
			t.Error("a text is changed")
		}
		if want, wantErr := strconv.ParseFloat(strings.TrimSpace(before), 64); err == nil && wantErr == nil && got != want && !math.IsNaN(want) {
			t.Errorf("%q reads as %v, want %v", before, got, want)
		}
		// What a number looks like in a label reads as that number.
		for _, v := range []sources.Value{
			sources.IntValue(i), sources.UintValue(uint64(i)), sources.FloatValue(x), sources.BoolValue(i > 0),
		} {
			want, err := v.Float()
			if err != nil {
				t.Fatal(err)
			}
			got, err := sources.TextValue(v.AppendText(nil)).Float()
			if err != nil || got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
				t.Errorf("%s reads as %v, %v, want %v", v.AppendText(nil), got, err, want)
			}
		}
		at := time.Unix(i%(1<<36), i&0xfffff).UTC()
		if got, err := time.Parse(time.RFC3339Nano, string(sources.TimeValue(at).AppendText(nil))); at.Year() > 0 && at.Year() < 10000 && (err != nil || !got.Equal(at)) {
			t.Errorf("%v reads as %v, %v", at, got, err)
		}
	})
}

func BenchmarkValue(b *testing.B) {
	for name, v := range map[string]sources.Value{
		"int":     sources.IntValue(1234567),
		"float":   sources.FloatValue(1234.5678),
		"decimal": text("1234.5678"),
		"time":    sources.TimeValue(time.Unix(1782900000, 0)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 64)
			for b.Loop() {
				_, _ = v.Float()
				buf = v.AppendText(buf[:0])
			}
		})
	}
}

// A database may hold any NaN, also the one that marks a series as stale.
func TestEveryNaNIsTheSame(t *testing.T) {
	for _, v := range []sources.Value{
		sources.FloatValue(math.Float64frombits(0x7ff0000000000002)),
		sources.FloatValue(math.Float64frombits(0xfff8000000000000)),
		sources.FloatValue(math.NaN()),
		sources.TextValue([]byte("NaN")),
	} {
		if f, err := v.Float(); err != nil || math.Float64bits(f) != 0x7ff8000000000001 {
			t.Errorf("bits %x, error %v", math.Float64bits(f), err)
		}
	}
}
