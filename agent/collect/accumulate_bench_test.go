package collect

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// tailing returns the newest rows of an endless table, and each time some more
// are new.
type tailing struct {
	database
	rows, fresh int
	newest      int
	at          func(i int) sources.Value
}

func (s *tailing) Query(_ context.Context, _ config.Query, each func(*sources.Row) error) error {
	s.newest += s.fresh
	columns := []string{"id", "shop", "seconds"}
	for i := s.newest - s.rows; i < s.newest; i++ {
		if err := each(&sources.Row{Columns: columns, Values: []sources.Value{s.at(i), text("a"), sources.FloatValue(1)}}); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkAccumulateOverlap runs a query of 85,000 rows within the overlap, of
// which 100 are new. The bytes are those of a round in the log.
func BenchmarkAccumulateOverlap(b *testing.B) {
	const rows, fresh = 85_000, 100
	for name, c := range map[string]struct {
		start   string
		overlap float64
		at      func(i int) sources.Value
	}{
		"ids": {"0", rows, func(i int) sources.Value { return sources.IntValue(int64(i)) }},
		"times": {"2000-01-01", rows / 100, func(i int) sources.Value {
			return sources.TimeValue(t0.Add(-time.Hour + time.Duration(i)*10*time.Millisecond + time.Duration(rand.New(rand.NewPCG(uint64(i), 1)).IntN(10_000))*time.Microsecond))
		}},
	} {
		b.Run(name, func(b *testing.B) {
			q := paymentQuery(c.overlap)
			q.Metrics[0].HistogramOptions.Cursor.Start = c.start
			log := openLog(b)
			tick := t0
			w := NewWorker(WorkerOptions{
				Source: dbSource(), Query: q, Client: &tailing{rows: rows, newest: rows, fresh: fresh, at: c.at},
				Health: NewHealth("db", discard), Log: log, Metrics: NewMetrics(prometheus.NewRegistry()),
				Logger: discard, Clock: func() time.Time { return tick },
			})
			b.Cleanup(w.Close)
			step := func() {
				tick = tick.Add(time.Second)
				if err := w.Step(b.Context(), tick); err != nil {
					b.Fatal(err)
				}
			}
			step()
			before := log.Stats().Bytes
			for b.Loop() {
				step()
			}
			b.ReportMetric(float64(log.Stats().Bytes-before)/float64(b.N), "B/round")
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/round")
		})
	}
}
