package collect

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// outcomes returns the samples that each run appends, for databases that
// answer so.
func outcomes(t *testing.T, onError config.OnError, answers ...answer) (*rig, []string) {
	q := query(orders())
	q.Clock.OnError, q.Clock.StaleAfter = onError, time.Hour
	r := newRig(t, dbSource(), q, &database{answers: answers})
	var got []string
	for i := range answers {
		got = append(got, r.step(i+1))
	}
	return r, got
}

func status(names ...string) answer {
	a := answer{columns: []string{"status", "n"}}
	for _, name := range names {
		a.rows = append(a.rows, []sources.Value{text(name), sources.IntValue(1)})
	}
	return a
}

// Series of a query that no longer applies end, even where those of one that
// fails are kept; it is no failure, and is said once.
func TestQueryThatDoesNotApply(t *testing.T) {
	closed := answer{err: &sources.NotApplicableError{Missing: []string{"role primary, and the server is a replica"}}}
	r, got := outcomes(t, config.OnErrorKeep, closed, status("open"), closed, closed, status("open"))
	want := []string{
		"",
		"orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 1 @2\n",
		"orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} stale @3\n",
		"",
		"orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 1 @5\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples differ (-want +got):\n%s", diff)
	}
	for f, counter := range r.Worker.metrics.errors {
		want := 0.0
		if f == notApplicable {
			want = 3
		}
		if n := testutil.ToFloat64(counter); n != want {
			t.Errorf("%s is counted %v times, want %v", f, n, want)
		}
	}
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(`
# HELP sql2metrics_query_skipped_total Ticks without a run, by reason: overrun, late, clock_back, and not_applicable: the server is not what the query requires.
# TYPE sql2metrics_query_skipped_total counter
sql2metrics_query_skipped_total{collector="c",query="q",reason="clock_back",source="db"} 0
sql2metrics_query_skipped_total{collector="c",query="q",reason="late",source="db"} 0
sql2metrics_query_skipped_total{collector="c",query="q",reason="not_applicable",source="db"} 3
sql2metrics_query_skipped_total{collector="c",query="q",reason="overrun",source="db"} 0
`), "sql2metrics_query_skipped_total"); err != nil {
		t.Error(err)
	}
}

// What the database says of a part of its databases costs the series of that
// part alone, and is no reason to ask the others again before their tick.
func TestPartOfTheDatabasesFails(t *testing.T) {
	part := status("open")
	part.err = &sources.PartialError{Of: 2, Failed: []sources.DatabaseError{{Database: "shop", Err: errors.New("permission denied")}}}
	r, got := outcomes(t, config.OnErrorStale, status("open", "paid"), part, part, status("open"))
	want := []string{
		"orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 1 @1\norders{instance=\"h:1\", job=\"pg\", status=\"paid\", team=\"shop\"} 1 @1\n",
		"orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 1 @2\norders{instance=\"h:1\", job=\"pg\", status=\"paid\", team=\"shop\"} stale @2\n",
		"orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 1 @3\n",
		"orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 1 @4\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples differ (-want +got):\n%s", diff)
	}
	if n := testutil.ToFloat64(r.Worker.metrics.errors[failedPartial]); n != 2 {
		t.Errorf("counted %v times, want 2", n)
	}
	if !settled(part.err) || settled(errDown) {
		t.Error("a run in part of the databases is repeated, or one in none is not")
	}
}

// Each of them is said once per change of state, by the worker's turn.
func TestStatesAreSaidOnce(t *testing.T) {
	closed := answer{err: &sources.NotApplicableError{Missing: []string{"role primary"}}}
	part := status("open")
	part.err = &sources.PartialError{Of: 2, Failed: []sources.DatabaseError{{Database: "shop", Err: errors.New("no")}}}
	answers := []answer{closed, closed, status("open"), part, part, status("open")}
	r := newRig(t, dbSource(), query(orders()), &database{answers: answers})
	for i := range answers {
		r.now = t0.Add(time.Duration(i+1) * time.Second)
		_ = r.turn(t.Context(), r.now)
	}
	for says, want := range map[string]int{"reason=not_applicable": 1, "query applies": 1, "reason=partial": 1, "query works again": 1} {
		if n := strings.Count(r.logged.String(), says); n != want {
			t.Errorf("%s is said %d times, want %d:\n%s", says, n, want, r.logged)
		}
	}
}
