package collect

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// successor returns a worker of the same source that is to take r's place.
func (r *rig) successor(q config.Query, db sources.Source) *Worker {
	r.t.Helper()
	w := NewWorker(WorkerOptions{
		Source: dbSource(), Query: q, Client: db, Health: r.health,
		Log: r.log, Metrics: r.metrics, Logger: slog.New(slog.DiscardHandler),
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
			w.Prepare(t.Context())
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
			w.Prepare(t.Context())
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
