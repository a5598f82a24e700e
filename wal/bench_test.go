package wal

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

// benchRound is a round as a query of 10,000 rows gives it: some counters
// that moved, some that did not, some gauges with decimals.
func benchRound(l *Log, n int) (*Round, func(now time.Time)) {
	series := testSeries(l, n)
	rng := rand.New(rand.NewPCG(1, 2))
	r := roundOf(series, testStart, 0)
	for i := range r.Samples {
		r.Samples[i].V = float64(rng.IntN(1_000_000))
	}
	return r, func(now time.Time) {
		for i := range r.Samples {
			s := &r.Samples[i]
			s.T = now.UnixMilli()
			switch i % 4 {
			case 0: // does not move
			case 1, 2:
				s.V += float64(rng.IntN(100))
			default:
				s.V = float64(rng.IntN(100_000)) / 100
			}
		}
	}
}

// BenchmarkAppend appends rounds of 10,000 known series, a second apart.
func BenchmarkAppend(b *testing.B) {
	l := openTest(b, Options{Path: b.TempDir(), MaxBytes: 1 << 40})
	r, next := benchRound(l, 10_000)
	mustAppend(b, l, r, testStart)
	start := l.Stats()
	now := testStart
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		now = now.Add(time.Second)
		next(now)
		b.StartTimer()
		mustAppend(b, l, r, now)
	}
	b.StopTimer()
	samples := float64(l.Stats().Appended.Samples - start.Appended.Samples)
	b.ReportMetric(samples/b.Elapsed().Seconds()/1e6, "Msamples/s")
	b.ReportMetric(float64(l.Stats().Bytes-start.Bytes)/samples, "B/sample")
}

// BenchmarkRead reads a log of 2 million samples from its beginning.
func BenchmarkRead(b *testing.B) {
	l := openTest(b, Options{Path: b.TempDir()})
	r, next := benchRound(l, 10_000)
	for i := range 200 {
		now := testStart.Add(time.Duration(i) * time.Second)
		next(now)
		mustAppend(b, l, r, now)
	}
	mustSync(b, l, testStart)
	var f Frame
	samples := 0
	b.ReportAllocs()
	for b.Loop() {
		r := l.Reader(Position{})
		for {
			err := r.Next(&f)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			samples += len(f.Samples)
		}
		r.Close()
	}
	b.ReportMetric(float64(samples)/b.Elapsed().Seconds()/1e6, "Msamples/s")
}
