package wal

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchValues are the kinds of values that a query gives: each returns the
// next value of a series.
var benchValues = []struct {
	kind string
	next func(rng *rand.Rand, i int, v float64) float64
}{
	{"counters", func(rng *rand.Rand, _ int, v float64) float64 { return v + float64(rng.IntN(100)) }},
	{"money", func(rng *rand.Rand, _ int, _ float64) float64 { return float64(rng.IntN(100_000)) / 100 }},
	{"constants", func(_ *rand.Rand, _ int, v float64) float64 { return v }},
	{"mixed", func(rng *rand.Rand, i int, v float64) float64 {
		switch i % 4 {
		case 0:
			return v
		case 1, 2:
			return v + float64(rng.IntN(100))
		}
		return float64(rng.IntN(100_000)) / 100
	}},
}

// benchRound is a round as a query of n rows gives it.
func benchRound(l *Log, n int, value func(rng *rand.Rand, i int, v float64) float64) (*Round, func(now time.Time)) {
	series := testSeries(l, n)
	rng := rand.New(rand.NewPCG(1, 2))
	r := roundOf(series, testStart, 0)
	for i := range r.Samples {
		r.Samples[i].V = float64(rng.IntN(1_000_000))
	}
	return r, func(now time.Time) {
		for i := range r.Samples {
			s := &r.Samples[i]
			s.T, s.V = now.UnixMilli(), value(rng, i, s.V)
		}
	}
}

// BenchmarkAppend appends rounds of 10,000 known series, a second apart. The
// bytes are those on disk, headers and series tables included.
func BenchmarkAppend(b *testing.B) {
	for _, values := range benchValues {
		b.Run(values.kind, func(b *testing.B) {
			l := openTest(b, Options{Path: b.TempDir(), MaxBytes: 1 << 40})
			r, next := benchRound(l, 10_000, values.next)
			mustAppend(b, l, r, testStart)
			start := l.Stats()
			now := testStart
			var cpu time.Duration
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				now = now.Add(time.Second)
				next(now)
				b.StartTimer()
				begun := cpuTime(b)
				mustAppend(b, l, r, now)
				cpu += cpuTime(b) - begun
			}
			b.StopTimer()
			samples := float64(l.Stats().Appended.Samples - start.Appended.Samples)
			b.ReportMetric(samples/b.Elapsed().Seconds()/1e6, "Msamples/s")
			b.ReportMetric(cpu.Seconds()/(samples/1e6), "CPU-s/Msample")
			b.ReportMetric(float64(l.Stats().Bytes-start.Bytes)/samples, "B/sample")
		})
	}
}

// cpuTime is what the process has used so far, in user and kernel mode.
func cpuTime(b *testing.B) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkRead reads a log of 2 million samples from its beginning.
func BenchmarkRead(b *testing.B) {
	l := openTest(b, Options{Path: b.TempDir()})
	r, next := benchRound(l, 10_000, benchValues[len(benchValues)-1].next)
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
