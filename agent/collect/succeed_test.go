package collect

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// successor returns a worker of the same source that is to take r's place.
func (r *rig) successor(q config.Query, db sources.Source) *Worker {
	r.t.Helper()
	w := NewWorker(WorkerOptions{
		Source: dbSource(), Query: q, Client: db, Health: r.health,
		Log: r.log, Metrics: r.metrics, Logger: r.logger,
		Clock: func() time.Time { return r.now },
	})
	r.t.Cleanup(w.Close)
	return w
}

func orderRows(n int64, statuses ...string) answer {
	a := answer{columns: []string{"status", "n"}}
	for _, s := range statuses {
		a.rows = append(a.rows, []sources.Value{text(s), sources.IntValue(n)})
	}
	return a
}

// TestSuccession puts a worker in the place of another: what the log gets in
// the moment of it, what the page shows before and after, and what the log gets
// at the next tick.
func TestSuccession(t *testing.T) {
	described := orders()
	described.Help, described.Type = "All orders.", config.Counter
	renamed := orders()
	renamed.Name = "purchases"
	for name, c := range map[string]struct {
		query     config.Query
		first     answer // of the successor's query, when it is prepared
		log, page string
		tick      string // what the log gets from a good run
	}{
		"another help and type": {
			query: query(described), first: orderRows(4, "open"),
			log:  "orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 4 @2.001\norders{instance=\"h:1\", job=\"pg\", status=\"paid\", team=\"shop\"} stale @2.001\n",
			page: "# HELP orders All orders.\n# TYPE orders counter\norders{status=\"open\",team=\"shop\"} 4\n",
			tick: "orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 5 @3\n",
		},
		"another help and type, and its first run fails": {
			query: query(described), first: answer{err: errDown},
			page: "# HELP orders All orders.\n# TYPE orders counter\norders{status=\"open\",team=\"shop\"} 3\norders{status=\"paid\",team=\"shop\"} 3\n",
			tick: "orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 5 @3\norders{instance=\"h:1\", job=\"pg\", status=\"paid\", team=\"shop\"} stale @3\n",
		},
		"another name, and its first run fails": {
			query: query(renamed), first: answer{err: errDown},
			log:  "orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} stale @2.001\norders{instance=\"h:1\", job=\"pg\", status=\"paid\", team=\"shop\"} stale @2.001\n",
			tick: "purchases{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 5 @3\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{orderRows(3, "open", "paid")}})
			page := NewPage(r.reg, r.reg)
			page.Show(r.Worker)
			r.step(1)
			w := r.successor(c.query, &database{answers: []answer{c.first, orderRows(5, "open")}})
			r.now = t0.Add(2 * time.Second)
			w.Prepare(t.Context(), []Runner{r.Worker})
			if got := newSamples(t, r.reader); got != "" {
				t.Errorf("a worker that is only prepared appends\n%s", got)
			}
			if !r.Retire() {
				t.Fatal("a worker that does nothing cannot be retired")
			}
			if err := (Succession{Leaving: []Runner{r.Worker}, Entering: []Runner{w}}).Carry(r.now); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.log, newSamples(t, r.reader)); d != "" {
				t.Errorf("the log gets (-want +got):\n%s", d)
			}
			if got := render(t, page); !strings.Contains(got, "# HELP orders Orders.\n# TYPE orders gauge\norders{status=\"open\",team=\"shop\"} 3\n") {
				t.Errorf("the page before shows\n%s", got)
			}
			page.Show(w)
			got := render(t, page)
			if got = got[:max(0, strings.Index(got, "# HELP sql2metrics"))]; got != c.page {
				t.Errorf("the page shows (-want +got):\n%s", cmp.Diff(c.page, got))
			}
			r.now = t0.Add(3 * time.Second)
			if err := w.Step(t.Context(), r.now); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.tick, newSamples(t, r.reader)); d != "" {
				t.Errorf("at the next tick the log gets (-want +got):\n%s", d)
			}
			if n := r.refusedCount("time"); n > 0 {
				t.Errorf("the log refuses %v samples", n)
			}
			addsUp(t, r.metrics)
		})
	}
}

// TestSuccessionOfMemory puts a worker with metrics that remember more than
// their last round in the place of another: they and their siblings are on each
// page, with a first round and without, and nothing is sent or counted twice.
func TestSuccessionOfMemory(t *testing.T) {
	seen := func(help string) config.Metric {
		m := backups(config.Timestamp{OnlyNewer: true})
		m.Name, m.KeyLabels, m.Help = "seen", []string{"status"}, help
		return m
	}
	times := paymentSeconds(0)
	times.Name, times.KeyLabels, times.HistogramOptions.Value = "times", nil, "n"
	metrics := func(help string) config.Query { return query(orders(), seen(help), times) }
	rows := func(n int64, at int) answer {
		return answer{columns: []string{"status", "n", "at", "id"}, rows: [][]sources.Value{
			{text("open"), sources.IntValue(n), sources.TimeValue(t0.Add(time.Duration(at) * time.Second)), sources.IntValue(n)},
		}}
	}
	page := func(help string, n, sum, count int) string {
		return fmt.Sprintf("# HELP orders Orders.\n# TYPE orders gauge\norders{status=\"open\",team=\"shop\"} %[2]d\n"+
			"# HELP seen %[1]s\n# TYPE seen gauge\nseen{status=\"open\",team=\"shop\"} %[2]d\n"+
			"# HELP times \n# TYPE times histogram\ntimes_bucket{team=\"shop\",le=\"1\"} 0\ntimes_bucket{team=\"shop\",le=\"2\"} 0\n"+
			"times_bucket{team=\"shop\",le=\"+Inf\"} %[4]d\ntimes_sum{team=\"shop\"} %[3]d\ntimes_count{team=\"shop\"} %[4]d\n", help, n, sum, count)
	}
	for name, c := range map[string]struct {
		first answer // of the successor's query, when it is prepared
		page  string
		seen  string // what the log gets with the succession, of that metric
	}{
		"a new row":        {rows(4, -5), page("New.", 4, 7, 2), "4 @-5"},
		"the row again":    {rows(3, -10), page("New.", 3, 3, 1), ""},
		"a run that fails": {answer{err: errDown}, page("New.", 3, 3, 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, dbSource(), metrics("Old."), &database{answers: []answer{rows(3, -10)}})
			r.step(1)
			w := r.successor(metrics("New."), &database{answers: []answer{c.first, rows(5, -1)}})
			r.now = t0.Add(2 * time.Second)
			if !Follows(w, r.Worker) || !r.Retire() {
				t.Fatal("it does not wait for the one before")
			}
			w.Prepare(t.Context(), []Runner{r.Worker})
			if got := newSamples(t, r.reader); got != "" {
				t.Errorf("a worker that is only prepared appends\n%s", got)
			}
			if err := (Succession{Leaving: []Runner{r.Worker}, Entering: []Runner{w}}).Carry(r.now); err != nil {
				t.Fatal(err)
			}
			log := newSamples(t, r.reader)
			want := ""
			if c.seen != "" {
				want = `seen{instance="h:1", job="pg", status="open", team="shop"} ` + c.seen + "\n"
			}
			if strings.Contains(log, "stale") || !strings.Contains(log, want) || strings.Contains(log, "seen") != (want != "") {
				t.Errorf("the log gets\n%s", log)
			}
			shows := func(want string) {
				t.Helper()
				p := NewPage(prometheus.NewRegistry(), prometheus.NewRegistry())
				p.Show(w)
				if d := cmp.Diff(want, render(t, p)); d != "" {
					t.Errorf("the page shows (-want +got):\n%s", d)
				}
			}
			shows(c.page)
			r.now = t0.Add(3 * time.Second)
			if err := w.Step(t.Context(), r.now); err != nil {
				t.Fatal(err)
			}
			if log = newSamples(t, r.reader); strings.Contains(log, "stale") || !strings.Contains(log, "5 @-1") {
				t.Errorf("at the next tick the log gets\n%s", log)
			}
			sum, count := 8, 2
			if name == "a new row" {
				sum, count = 12, 3
			}
			shows(page("New.", 5, sum, count))
			addsUp(t, r.metrics)
		})
	}
}

// hanging is a source whose query ends when it wants to.
type hanging struct {
	database
	asked, answer chan struct{}
}

// Query implements [sources.Source].
func (h *hanging) Query(ctx context.Context, q config.Query, each func(*sources.Row) error) error {
	close(h.asked)
	<-h.answer
	return h.database.Query(ctx, q, each)
}

// TestRetiredWorkerDiscardsItsResult retires a worker while its query hangs.
// What comes of that, also when the worker was not told to end, is counted and
// seen by nobody.
func TestRetiredWorkerDiscardsItsResult(t *testing.T) {
	for name, told := range map[string]bool{"told to end": true, "not told": false} {
		t.Run(name, func(t *testing.T) {
			h := &hanging{database{answers: []answer{orderRows(3, "open")}}, make(chan struct{}), make(chan struct{})}
			r := newRig(t, dbSource(), query(orders()), h)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error)
			go func() { ended <- r.Step(ctx, t0) }()
			<-h.asked
			if told {
				cancel()
			}
			if !r.Retire() {
				t.Fatal("a worker whose query hangs cannot be retired")
			}
			w := r.successor(query(orders()), &database{answers: []answer{orderRows(4, "open")}})
			w.Prepare(t.Context(), []Runner{r.Worker})
			if err := (Succession{Leaving: []Runner{r.Worker}, Entering: []Runner{w}}).Carry(t0); err != nil {
				t.Fatal(err)
			}
			close(h.answer)
			if err := <-ended; err == nil {
				t.Error("the step of a worker that was replaced is a good one")
			}
			want := "orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 4 @0.001\n"
			if d := cmp.Diff(want, newSamples(t, r.reader)); d != "" {
				t.Errorf("the log has (-want +got):\n%s", d)
			}
			if got := render(t, NewPage(r.reg, r.reg)); !strings.Contains(got, "sql2metrics_query_results_discarded_total 1\n") {
				t.Errorf("the result is not counted:\n%s", got)
			}
			addsUp(t, r.metrics)
		})
	}
}

// TestSuccessionKeepsTheHold has a worker whose query never succeeds go on with
// the last result of the one before: it is emitted again, and ends once, as if
// nobody had been replaced.
func TestSuccessionKeepsTheHold(t *testing.T) {
	q := query(orders())
	q.Clock = config.Clock{Interval: 10 * time.Minute, ResendInterval: time.Minute, StaleAfter: 30 * time.Minute, OnError: config.OnErrorKeep}
	r := newRig(t, dbSource(), q, &database{answers: []answer{orderRows(3, "open")}})
	r.step(2)
	described := q
	described.Metrics = []config.Metric{orders()}
	described.Metrics[0].Help = "All orders."
	w := r.successor(described, &database{answers: []answer{{err: errDown}}})
	r.now = t0.Add(3 * time.Second)
	w.Prepare(t.Context(), []Runner{r.Worker})
	r.Retire()
	if err := (Succession{Leaving: []Runner{r.Worker}, Entering: []Runner{w}}).Carry(r.now); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for at := 62; at < 30*60; at += 60 {
		fmt.Fprintf(&want, "orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} 3 @%d\n", at)
	}
	want.WriteString("orders{instance=\"h:1\", job=\"pg\", status=\"open\", team=\"shop\"} stale @1802\n")
	for at := 4; at < 40*60; at++ {
		r.now = t0.Add(time.Duration(at) * time.Second)
		if at%600 == 0 {
			_ = w.Step(t.Context(), r.now)
		}
		w.refresh(r.now)
	}
	if diff := cmp.Diff(want.String(), newSamples(t, r.reader)); diff != "" {
		t.Error(diff)
	}
}
