package collect

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// render returns the page as /metrics would, without the agent's own metrics
// but the counter of conflicts.
func render(t *testing.T, p *Page) string {
	t.Helper()
	families, err := p.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, mf := range families {
		if _, err := expfmt.MetricFamilyToText(&b, mf); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestPage(t *testing.T) {
	one := answer{columns: []string{"status", "n"}, rows: [][]sources.Value{
		{text("open"), sources.IntValue(1)}, {text("paid"), sources.FloatValue(2.5)},
	}}
	source := func(name string, lset ...string) config.Source {
		s := dbSource()
		s.Name, s.Labels = name, labels.FromStrings(lset...)
		return s
	}
	metric := func(name string, kind config.MetricType, help string) config.Query {
		return query(config.Metric{Name: name, Type: kind, Help: help, KeyLabels: []string{"status"}, Values: []string{"n"}})
	}
	type shown struct {
		source config.Source
		query  config.Query
	}
	for name, c := range map[string]struct {
		workers []shown
		want    string
	}{
		"job, instance and up are left to whoever scrapes the page": {
			[]shown{{source("db", "team", "shop"), metric("orders_total", config.Counter, "Orders.")}},
			`# HELP orders_total Orders.
# TYPE orders_total counter
orders_total{status="open",team="shop"} 1
orders_total{status="paid",team="shop"} 2.5
# HELP sql2metrics_exposition_conflicts_total Series left out of an answer of /metrics because their name, type or labels collide with others.
# TYPE sql2metrics_exposition_conflicts_total counter
sql2metrics_exposition_conflicts_total 0
`,
		},
		"one name from several sources: the first help is shown": {
			[]shown{
				{source("a", "shard", "1"), metric("orders", config.Gauge, "First.")},
				{source("b", "shard", "2"), metric("orders", config.Gauge, "Second.")},
				{source("c", "zone", "eu", "shop", "x"), metric("orders", config.Gauge, "")},
			},
			`# HELP orders First.
# TYPE orders gauge
orders{shard="1",status="open"} 1
orders{shard="1",status="paid"} 2.5
orders{shard="2",status="open"} 1
orders{shard="2",status="paid"} 2.5
orders{shop="x",status="open",zone="eu"} 1
orders{shop="x",status="paid",zone="eu"} 2.5
# HELP sql2metrics_exposition_conflicts_total Series left out of an answer of /metrics because their name, type or labels collide with others.
# TYPE sql2metrics_exposition_conflicts_total counter
sql2metrics_exposition_conflicts_total 0
`,
		},
		"the same labels, another type, an own name: left out and counted": {
			[]shown{
				{source("a"), metric("orders", config.Gauge, "Orders.")},
				{source("b"), metric("orders", config.Gauge, "Orders.")},
				{source("c", "shard", "1"), metric("orders", config.Counter, "Orders.")},
				{source("d"), metric("sql2metrics_exposition_conflicts_total", config.Gauge, "Orders.")},
			},
			`# HELP orders Orders.
# TYPE orders gauge
orders{status="open"} 1
orders{status="paid"} 2.5
# HELP sql2metrics_exposition_conflicts_total Series left out of an answer of /metrics because their name, type or labels collide with others.
# TYPE sql2metrics_exposition_conflicts_total counter
sql2metrics_exposition_conflicts_total 6
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			page := NewPage(reg, reg)
			var workers []Shown
			for _, w := range c.workers {
				r := newRig(t, w.source, w.query, &database{answers: []answer{one}})
				r.step(1)
				workers = append(workers, r.Worker)
			}
			page.Show(workers...)
			_ = render(t, page) // the own registry is gathered before its counter moves
			want := c.want
			if diff := cmp.Diff(want, render(t, page)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A failed query's values leave the page at once; the page of another worker
// does not change.
func TestPageFollowsTheWorkers(t *testing.T) {
	reg := prometheus.NewRegistry()
	page := NewPage(reg, reg)
	one := answer{columns: []string{"status", "n"}, rows: [][]sources.Value{{text("open"), sources.IntValue(1)}}}
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{one, {err: errDown}, one}})
	page.Show(r.Worker)
	for round, want := range []bool{true, false, true} {
		r.step(round + 1)
		if got := strings.Contains(render(t, page), "orders{"); got != want {
			t.Errorf("round %d: shown %v, want %v", round+1, got, want)
		}
	}
	page.Show()
	if strings.Contains(render(t, page), "orders{") {
		t.Error("a worker that is not shown is on the page")
	}
}

func TestSelfMetricsPassTheLinter(t *testing.T) {
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{{err: errDown}}})
	r.step(1)
	NewPage(r.reg, r.reg)
	r.metrics.up.WithLabelValues("db").Set(1)
	problems, err := testutil.GatherAndLint(r.reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestCloseTakesTheWorkersMetricsAway(t *testing.T) {
	one := answer{columns: []string{"status", "n"}, rows: [][]sources.Value{{text("open"), sources.IntValue(1)}}}
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{one}})
	r.step(1)
	r.Close()
	left, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range left {
		for _, m := range mf.Metric {
			for _, l := range m.Label {
				if l.GetName() == "source" && l.GetValue() != "" {
					t.Errorf("%s of %s is left", mf.GetName(), l.GetValue())
				}
			}
		}
	}
	if len(r.mappers[0].shape.(*scalar).series) != 0 {
		t.Error("series are left")
	}
}

func BenchmarkStep(b *testing.B) {
	const n = 10_000
	rows := make([]sources.Row, n)
	columns := []string{"a", "b", "c", "n"}
	for i := range rows {
		id := string(rune('a'+i%26)) + time.Duration(i).String()
		rows[i] = sources.Row{Columns: columns, Values: []sources.Value{text(id), text("region"), text("status"), sources.IntValue(int64(i))}}
	}
	w := NewWorker(WorkerOptions{
		Source: dbSource(),
		Query: query(config.Metric{
			Name: "m", Type: config.Gauge, KeyLabels: []string{"a", "b", "c"}, Values: []string{"n"},
		}),
		Client: replay{rows}, Health: NewHealth("db", discard), Log: openLog(b),
		Metrics: NewMetrics(prometheus.NewRegistry()), Logger: discard, Clock: time.Now,
	})
	b.Cleanup(w.Close)
	tick := time.Now()
	step := func() {
		tick = tick.Add(time.Second)
		if err := w.Step(b.Context(), tick); err != nil {
			b.Fatal(err)
		}
	}
	for range 3 { // until every series is known and every slice has its size
		step()
	}
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "samples/s")
}
