package collect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sql2metrics/config"
	"sql2metrics/sources"
)

var errDown = &sources.ConnectError{Source: "db", Err: errors.New("connection refused")}

func orders() config.Metric {
	return config.Metric{
		Name: "orders", Type: config.Gauge, Help: "Orders.",
		KeyLabels: []string{"status"}, Values: []string{"n"},
	}
}

func TestRowsBecomeSamples(t *testing.T) {
	rows := answer{
		columns: []string{"status", "region", "n", "amount"},
		rows: [][]sources.Value{
			{text("open"), text("eu"), sources.IntValue(3), text("12.5")},
			{text("paid"), null, sources.UintValue(7), sources.FloatValue(1e3)},
		},
	}
	for name, c := range map[string]struct {
		metrics []config.Metric
		want    string
	}{
		"key labels from columns, NULL is no label": {
			[]config.Metric{{Name: "m", Type: config.Gauge, KeyLabels: []string{"status", "region"}, Values: []string{"n"}}},
			`m{instance="h:1", job="pg", region="eu", status="open", team="shop"} 3 @1
m{instance="h:1", job="pg", status="paid", team="shop"} 7 @1
`,
		},
		"static labels": {
			[]config.Metric{{Name: "m", Type: config.Gauge, KeyLabels: []string{"status"}, StaticLabels: map[string]string{"app": "x"}, Values: []string{"amount"}}},
			`m{app="x", instance="h:1", job="pg", status="open", team="shop"} 12.5 @1
m{app="x", instance="h:1", job="pg", status="paid", team="shop"} 1000 @1
`,
		},
		"several values told apart by value_label": {
			[]config.Metric{{Name: "m", Type: config.Gauge, KeyLabels: []string{"status"}, Values: []string{"n", "amount"}, ValueLabel: "of"}},
			`m{instance="h:1", job="pg", of="n", status="open", team="shop"} 3 @1
m{instance="h:1", job="pg", of="amount", status="open", team="shop"} 12.5 @1
m{instance="h:1", job="pg", of="n", status="paid", team="shop"} 7 @1
m{instance="h:1", job="pg", of="amount", status="paid", team="shop"} 1000 @1
`,
		},
		"one query for several metrics": {
			[]config.Metric{
				{Name: "a", Type: config.Gauge, KeyLabels: []string{"status"}, Values: []string{"n"}},
				{Name: "b_total", Type: config.Counter, KeyLabels: []string{"status"}, Values: []string{"amount"}},
			},
			`a{instance="h:1", job="pg", status="open", team="shop"} 3 @1
b_total{instance="h:1", job="pg", status="open", team="shop"} 12.5 @1
a{instance="h:1", job="pg", status="paid", team="shop"} 7 @1
b_total{instance="h:1", job="pg", status="paid", team="shop"} 1000 @1
`,
		},
		"columns in another case": {
			[]config.Metric{{Name: "m", Type: config.Gauge, KeyLabels: []string{"Status"}, Values: []string{"N"}}},
			`m{Status="open", instance="h:1", job="pg", team="shop"} 3 @1
m{Status="paid", instance="h:1", job="pg", team="shop"} 7 @1
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, dbSource(), query(c.metrics...), &database{answers: []answer{rows}})
			if diff := cmp.Diff(c.want, r.step(1)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A cell that cannot be used costs itself alone, is counted, and is explained
// in the log once, until a round without it.
func TestRefusedCells(t *testing.T) {
	good := []sources.Value{text("open"), sources.IntValue(1)}
	goodSample := `orders{instance="h:1", job="pg", status="open", team="shop"} 1 @`
	for name, c := range map[string]struct {
		columns []string
		bad     []sources.Value
		reason  string
		logged  string
	}{
		"NULL value":            {nil, []sources.Value{text("paid"), null}, "null", `column \"n\" is NULL`},
		"not a number":          {nil, []sources.Value{text("paid"), text("many")}, "unparsable", `column \"n\" is \"many\"`},
		"labels of another row": {nil, []sources.Value{text("open"), sources.IntValue(2)}, "duplicate", `two rows have the labels {status=\"open\", team=\"shop\"}`},
		"label not UTF-8":       {nil, []sources.Value{text("a\xff"), sources.IntValue(2)}, "invalid_label", `column \"status\" is \"a\\xff\"`},
	} {
		t.Run(name, func(t *testing.T) {
			columns := []string{"status", "n"}
			bad := answer{columns: columns, rows: [][]sources.Value{good, c.bad}}
			fine := answer{columns: columns, rows: [][]sources.Value{good}}
			r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{bad, bad, fine, bad}})
			for i := range 4 {
				if got, want := r.step(i+1), fmt.Sprintf("%s%d\n", goodSample, i+1); got != want {
					t.Errorf("round %d appended %q, want %q", i+1, got, want)
				}
			}
			if n := r.refusedCount(c.reason); n != 3 {
				t.Errorf("counted %v refusals, want 3", n)
			}
			if n := strings.Count(r.logged.String(), c.logged); n != 2 {
				t.Errorf("explained %d times, want 2 (rounds 1 and 4):\n%s", n, r.logged)
			}
		})
	}
}

func TestResultWithoutColumns(t *testing.T) {
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{{rows: [][]sources.Value{{}}}}})
	if got := r.step(1); got != "" {
		t.Errorf("appended %s", got)
	}
	if want := `the result has no column \"status\", \"n\"; it has none`; !strings.Contains(r.logged.String(), want) {
		t.Errorf("the log does not say %s:\n%s", want, r.logged)
	}
}

func TestMissingColumnFailsItsMetricAlone(t *testing.T) {
	other := config.Metric{Name: "other", Type: config.Gauge, KeyLabels: []string{"nothing"}, Values: []string{"none"}}
	rows := answer{columns: []string{"status", "n"}, rows: [][]sources.Value{{text("open"), sources.IntValue(1)}}}
	r := newRig(t, dbSource(), query(other, orders()), &database{answers: []answer{rows}})
	if got, want := r.step(1), "orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 1 @1\n"; got != want {
		t.Errorf("appended %q, want %q", got, want)
	}
	want := `the result has no column \"nothing\", \"none\"; it has \"status\", \"n\"`
	if !strings.Contains(r.logged.String(), want) {
		t.Errorf("the log does not say %s:\n%s", want, r.logged)
	}
	if n := r.refusedCount("missing_column"); n != 1 {
		t.Errorf("counted %v refusals, want 1", n)
	}
}

func TestStaleness(t *testing.T) {
	columns := []string{"status", "n"}
	result := func(statuses ...string) answer {
		a := answer{columns: columns}
		for i, s := range statuses {
			a.rows = append(a.rows, []sources.Value{text(s), sources.IntValue(int64(i))})
		}
		return a
	}
	broken := func(statuses ...string) answer {
		a := result(statuses...)
		a.err = errors.New("division by zero")
		return a
	}
	sample := func(status, v string, at int) string {
		return fmt.Sprintf("orders{instance=\"h:1\", job=\"pg\", status=%q, team=\"shop\"} %s @%d\n", status, v, at)
	}
	for name, c := range map[string]struct {
		answers []answer
		want    []string
	}{
		"row gone": {
			[]answer{result("a", "b"), result("a"), result("a")},
			[]string{sample("a", "0", 1) + sample("b", "1", 1), sample("a", "0", 2) + sample("b", "stale", 2), sample("a", "0", 3)},
		},
		"row back": {
			[]answer{result("a"), result(), result("a")},
			[]string{sample("a", "0", 1), sample("a", "stale", 2), sample("a", "0", 3)},
		},
		"one row replaced by another": {
			[]answer{result("a"), result("b")},
			[]string{sample("a", "0", 1), sample("b", "0", 2) + sample("a", "stale", 2)},
		},
		"failed once": {
			[]answer{result("a"), {err: errDown}, result("a")},
			[]string{sample("a", "0", 1), sample("a", "stale", 2), sample("a", "0", 3)},
		},
		"failed for long: one marker": {
			[]answer{result("a"), {err: errDown}, {err: errDown}, {err: errDown}},
			[]string{sample("a", "0", 1), sample("a", "stale", 2), "", ""},
		},
		"failed in the middle of a result that has a new row": {
			[]answer{result("a"), broken("a", "b"), result("b")},
			[]string{sample("a", "0", 1), sample("a", "stale", 2), sample("b", "0", 3)},
		},
		"failed from the start": {
			[]answer{{err: errDown}, result("a")},
			[]string{"", sample("a", "0", 2)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, dbSource(), query(orders()), &database{answers: c.answers})
			for i, want := range c.want {
				if diff := cmp.Diff(want, r.step(i+1)); diff != "" {
					t.Errorf("round %d: %s", i+1, diff)
				}
			}
		})
	}
}

func TestStopWritesNoMarkers(t *testing.T) {
	rows := answer{columns: []string{"status", "n"}, rows: [][]sources.Value{{text("open"), sources.IntValue(1)}}}
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{rows, {err: context.Canceled}}})
	r.step(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.now = t0.Add(2 * time.Second)
	if err := r.Step(ctx, r.now); !errors.Is(err, context.Canceled) {
		t.Errorf("Step returned %v, want context.Canceled", err)
	}
	if got := newSamples(t, r.reader); got != "" {
		t.Errorf("a stopped worker appended %s", got)
	}
}

func TestFailureIsLoggedOncePerChange(t *testing.T) {
	rows := answer{columns: []string{"status", "n"}, rows: [][]sources.Value{{text("open"), sources.IntValue(1)}}}
	busy := answer{err: &sources.BusyError{Connections: 2, After: time.Second}}
	slow := answer{err: fmt.Errorf("query timed out: %w", context.DeadlineExceeded)}
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{
		{err: errDown}, {err: errDown}, slow, slow, busy, busy, rows, rows,
	}})
	for i := range 8 {
		r.now = t0.Add(time.Duration(i+1) * time.Second)
		_ = r.turn(t.Context(), r.now)
	}
	want := `level=WARN msg="source is down" source=db err="connect to source db: connection refused"
level=WARN msg="query failed" source=db collector=c query=q reason=timeout err="query timed out: context deadline exceeded"
level=WARN msg="query failed" source=db collector=c query=q reason=busy err="all 2 connections were busy for 1s; raise max_connections or spread the queries"
level=INFO msg="source is back" source=db
level=INFO msg="query works again" source=db collector=c query=q rows=1 series=1
`
	if diff := cmp.Diff(want, r.logged.String()); diff != "" {
		t.Error(diff)
	}
	for reason, n := range map[string]float64{"connect": 2, "timeout": 2, "busy": 2, "limit": 0, "query": 0, "append": 0} {
		if got := testutil.ToFloat64(r.metrics.errors.WithLabelValues("db", "c", "q", reason)); got != n {
			t.Errorf("%s: counted %v failures, want %v", reason, got, n)
		}
	}
}

func TestClockBackRefusesRounds(t *testing.T) {
	rows := answer{columns: []string{"status", "n"}, rows: [][]sources.Value{{text("open"), sources.IntValue(1)}}}
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{rows}})
	r.step(10)
	for i := range 3 {
		r.now = t0.Add(time.Duration(5+i) * time.Second)
		if err := r.turn(t.Context(), r.now); !errors.Is(err, errClockBack) {
			t.Errorf("turn returned %v, want errClockBack", err)
		}
	}
	if got := newSamples(t, r.reader); got != "" {
		t.Errorf("appended %s", got)
	}
	if n := strings.Count(r.logged.String(), "reason=clock_back"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, r.logged)
	}
	if n := testutil.ToFloat64(r.metrics.skipped.WithLabelValues("db", "c", "q", "clock_back")); n != 3 {
		t.Errorf("counted %v, want 3", n)
	}
	if got := r.step(11); got == "" {
		t.Error("nothing appended after the clock passed the last stamp")
	}
}

// TestClockBackOverARestart refuses rounds as those of a clock that is back, and
// not one sample after the other for its time.
func TestClockBackOverARestart(t *testing.T) {
	rows := answer{columns: []string{"status", "n"}, rows: [][]sources.Value{{text("open"), sources.IntValue(1)}}}
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{rows}})
	r.step(10)
	r.restart(query(orders()), &database{answers: []answer{rows}})
	if got := r.step(5); got != "" || r.refusedCount("time") != 0 {
		t.Errorf("appended %q, refused %v for their time", got, r.refusedCount("time"))
	}
	if n := testutil.ToFloat64(r.metrics.skipped.WithLabelValues("db", "c", "q", "clock_back")); n != 1 {
		t.Errorf("counted %v, want 1", n)
	}
	if got := r.step(11); got == "" {
		t.Error("nothing appended after the clock passed the last stamp")
	}
	u := NewUp(UpOptions{
		Source: dbSource(), Client: &database{pings: []error{nil}}, Health: r.health,
		Log: r.log, Metrics: r.metrics, Logger: discard, Clock: func() time.Time { return r.now },
	})
	defer u.Close()
	if err := u.Step(t.Context(), t0.Add(5*time.Second)); !errors.Is(err, errClockBack) {
		t.Errorf("up: %v, want errClockBack", err)
	}
}

// The path from row to log allocates per round, not per sample.
func TestKnownSeriesAllocateNothing(t *testing.T) {
	const n = 2000
	rows := answer{columns: []string{"status", "n"}}
	for i := range n {
		rows.rows = append(rows.rows, []sources.Value{text(fmt.Sprint("s", i)), sources.IntValue(int64(i))})
	}
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{rows}})
	second := 0
	step := func() {
		second++
		r.now = t0.Add(time.Duration(second) * time.Second)
		if err := r.Step(t.Context(), r.now); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		step()
	}
	// The test's database makes a Row for each row; the worker's own share is
	// what is left.
	allocs := testing.AllocsPerRun(20, step)
	if perSample := (allocs - n) / n; perSample > 0.02 {
		t.Errorf("%.0f allocations for %d samples beside the rows, want a constant few", allocs-n, n)
	}
}
