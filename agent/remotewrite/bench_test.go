package remotewrite

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// BenchmarkShip drains a backlog of 1,200,000 samples of 20,000 series into a
// receiver on loopback that reads and forgets. CPU is of the whole process:
// the receiver's HTTP is in it.
func BenchmarkShip(b *testing.B) {
	for name, p := range map[string]config.Protocol{"2.0": config.ProtocolV2, "1.0": config.ProtocolV1} {
		b.Run(name, func(b *testing.B) { benchmarkShip(b, p, 0) })
	}
	b.Run("2.0, 50 ms away", func(b *testing.B) { benchmarkShip(b, config.ProtocolV2, 50*time.Millisecond) })
}

func benchmarkShip(b *testing.B, p config.Protocol, away time.Duration) {
	const series, rounds = 20_000, 60
	null := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if away > 0 {
			<-time.After(away)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer null.Close()
	j := openJournal(b, b.TempDir(), wal.Options{})
	e := endpoint(b, null.URL)
	e.Protocol = p
	e.Queue.MaxShards = config.DefaultRemoteWrite().Queue.MaxShards
	s := newShip(b, Options{Endpoint: e, Log: j.Log, ExternalLabels: labels.FromStrings("cluster", "eu1")})

	all := make([]*wal.Series, series)
	for i := range all {
		all[i] = j.Series(labels.FromStrings(
			"__name__", "orders_by_status", "instance", "orders-0:5432", "job", "postgres",
			"region", "region-"+strconv.Itoa(i%50), "status", "status-"+strconv.Itoa(i/50), "team", "shop",
		), wal.Metadata{Type: "gauge", Help: "Orders by status."})
	}
	now := epoch
	var cpu, samples, allocs float64
	for b.Loop() {
		b.StopTimer()
		for range rounds {
			now = now.Add(15 * time.Second)
			r := wal.Round{Samples: round(all, now, 0)}
			for i := range r.Samples {
				r.Samples[i].V = float64(i*7 + int(now.Unix()/15)%(i%97+2))
			}
			if _, err := j.Append(&r, now); err != nil {
				b.Fatal(err)
			}
		}
		if err := j.Sync(now); err != nil {
			b.Fatal(err)
		}
		before, mallocs := processCPU(b), processMallocs()
		b.StartTimer()
		for {
			rest, err := s.Step(context.Background(), now.Add(time.Hour))
			if err != nil {
				b.Fatal(err)
			}
			if rest > 0 {
				break
			}
		}
		cpu += processCPU(b) - before
		allocs += processMallocs() - mallocs
		samples += series * rounds
	}
	if l := s.balance(); l.Sent.Samples != uint64(samples) {
		b.Fatalf("sent %d of %.0f samples", l.Sent.Samples, samples)
	}
	b.ReportMetric(samples/b.Elapsed().Seconds(), "samples/s")
	b.ReportMetric(cpu/samples*1e6, "CPU-s/Msample")
	b.ReportMetric(allocs/samples, "allocs/sample")
	b.ReportMetric(testutil.ToFloat64(s.metrics.bytes)/samples, "wire-B/sample")
}

func processMallocs() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Mallocs)
}

func processCPU(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// BenchmarkEncode encodes a full window: 20,000 series with 6 samples each, in
// requests of 2,000 samples.
func BenchmarkEncode(b *testing.B) {
	for name, p := range map[string]config.Protocol{"2.0": config.ProtocolV2, "1.0": config.ProtocolV1} {
		b.Run(name, func(b *testing.B) {
			w, _ := benchmarkWindow(20_000, 6)
			w.cut(cutting{Limit: 2000})
			var e encoder
			var buf []byte
			samples := 0
			b.ReportAllocs()
			for b.Loop() {
				for i := range w.requests {
					buf = e.append(buf[:0], p, w, &w.requests[i].piece)
				}
				samples += len(w.samples)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(samples), "ns/sample")
		})
	}
}

// BenchmarkWindow fills and cuts a full window.
func BenchmarkWindow(b *testing.B) {
	w, f := benchmarkWindow(20_000, 1)
	t := newTable(labels.EmptyLabels(), nil)
	samples := 0
	b.ReportAllocs()
	for b.Loop() {
		w.reset(t)
		for range 6 {
			w.add(f, t)
		}
		for i := range w.series {
			w.series[i].disordered = false // the same frame six times
		}
		w.cut(cutting{Limit: 2000})
		samples += len(w.samples)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(samples), "ns/sample")
}

// benchmarkWindow returns a window of that many rounds, and the last round as
// one frame.
func benchmarkWindow(series, rounds int) (*window, *wal.Frame) {
	f := &wal.Frame{Series: make([]wal.SeriesEntry, series+1)}
	f.Position.Segment = 1
	for i := 1; i <= series; i++ {
		f.Series[i].Labels = labels.FromStrings("__name__", "orders_by_status", "instance", "orders-0:5432", "job", "postgres",
			"region", "region-"+strconv.Itoa(i%50), "status", "status-"+strconv.Itoa(i/50))
	}
	t := newTable(labels.EmptyLabels(), nil)
	w := &window{}
	w.reset(t)
	for r := range rounds {
		f.Samples = f.Samples[:0]
		for i := 1; i <= series; i++ {
			f.Samples = append(f.Samples, record.RefSample{
				Ref: chunks.HeadSeriesRef(i), T: epoch.UnixMilli() + int64(r)*15000, V: float64(i * r),
			})
		}
		w.add(f, t)
	}
	return w, f
}
