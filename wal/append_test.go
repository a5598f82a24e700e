package wal

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// TestRefused holds that a series never goes back in time.
func TestRefused(t *testing.T) {
	const t0 = 1_700_000_000_000
	type step struct {
		times    []int64 // of samples of one series, relative to t0
		ownTime  bool
		reopen   bool
		other    bool // another series
		appended uint64
	}
	for name, steps := range map[string][]step{
		"rising":                         {{times: []int64{0}, appended: 1}, {times: []int64{1}, appended: 1}},
		"the same again":                 {{times: []int64{0}, appended: 1}, {times: []int64{0}}},
		"back":                           {{times: []int64{5}, appended: 1}, {times: []int64{4}}, {times: []int64{6}, appended: 1}},
		"twice in one round":             {{times: []int64{0, 0, 1, 1, 0}, appended: 2}},
		"another series may be older":    {{times: []int64{5}, appended: 1}, {times: []int64{1}, other: true, appended: 1}},
		"no series below the floor":      {{times: []int64{5}, appended: 1}, {times: []int64{5, 6}, other: true, reopen: true, appended: 1}},
		"own time may be below it":       {{times: []int64{5}, appended: 1}, {times: []int64{2}, other: true, ownTime: true, reopen: true, appended: 1}},
		"own time does not go back":      {{times: []int64{5}, ownTime: true, appended: 1}, {times: []int64{4, 5, 6}, ownTime: true, appended: 1}},
		"own time does not make a floor": {{times: []int64{5}, ownTime: true, appended: 1}, {times: []int64{1}, reopen: true, appended: 1}},
		"the floor passes on over reopens": {{times: []int64{5}, appended: 1}, {reopen: true}, {times: []int64{5, 6}, reopen: true, appended: 1},
			{times: []int64{6, 7}, other: true, reopen: true, appended: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openTest(t, Options{Path: dir})
			for i, s := range steps {
				if s.reopen {
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					l = openTest(t, Options{Path: dir})
				}
				series := testSeries(l, 2)[0]
				if s.other {
					series = testSeries(l, 2)[1]
				}
				r := &Round{OwnTime: s.ownTime}
				for _, at := range s.times {
					r.Samples = append(r.Samples, Sample{Series: series, T: t0 + at})
				}
				out := mustAppend(t, l, r, testStart)
				if out.Appended.Samples != s.appended || out.Refused.Samples != uint64(len(s.times))-s.appended {
					t.Errorf("step %d: %+v, want %d appended", i, out, s.appended)
				}
			}
		})
	}
}

// TestLast holds that the log tells the time that it holds a series to.
func TestLast(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	lset := testLabels(1)
	never := func(when string) {
		if at, ok := l.Last(lset); ok {
			t.Errorf("%s: the log has a time of %d", when, at)
		}
	}
	never("unknown")
	s := l.Series(lset, Metadata{})
	never("without a sample")
	mustAppend(t, l, roundOf([]*Series{s}, testStart, 1), testStart)
	l.Release(s)
	if at, ok := l.Last(lset); !ok || at != testStart.UnixMilli() {
		t.Errorf("released: got %d, %v, want %d", at, ok, testStart.UnixMilli())
	}
}

// TestEveryKind appends what a round can hold and reads it back.
func TestEveryKind(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	a := l.Series(labels.FromStrings("__name__", "a"), Metadata{Type: "counter", Help: "A."})
	b := l.Series(labels.FromStrings("__name__", "b"), Metadata{Type: "histogram", Unit: "seconds"})
	h := &histogram.Histogram{Schema: 1, Count: 3, Sum: 2, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1}}
	fh := &histogram.FloatHistogram{Schema: -53, Count: 3, Sum: 2, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{1, 2}, CustomValues: []float64{1, 2}}
	unknown := &histogram.Histogram{Schema: 99}
	huge := l.Series(labels.FromStrings("__name__", strings.Repeat("x", itemBytes)), Metadata{})
	traced := labels.FromStrings("trace_id", "abc")
	out := mustAppend(t, l, &Round{
		Samples: []Sample{{Series: a, ST: 5, T: 100, V: 1}, {Series: huge, T: 100}},
		Histograms: []Histogram{
			{Series: b, ST: 7, T: 100, H: h}, {Series: b, T: 101, FH: fh},
			{Series: b, T: 101, H: h}, {Series: b, T: 102}, {Series: b, T: 102, H: unknown},
		},
		Exemplars: []Exemplar{{Series: a, T: 90, V: 1, Labels: traced}, {Series: a, T: 90, V: 1, Labels: traced}, {Series: a, T: 90, V: 2}, {Series: a, T: 95, V: 2}},
	}, testStart)
	if want := (Appended{Appended: Totals{1, 2, 3}, Refused: Totals{1, 3, 1}, Unfit: Totals{Samples: 1, Histograms: 2}}); out != want {
		t.Fatalf("%+v, want %+v", out, want)
	}
	l.Series(a.Labels(), Metadata{Type: "counter", Help: "A, better."})
	mustAppend(t, l, &Round{Samples: []Sample{{Series: a, T: 200, V: 2}}}, testStart)
	mustSync(t, l, testStart)

	r := l.Reader(Position{})
	defer r.Close()
	var f Frame
	if err := r.Next(&f); err != nil {
		t.Fatal(err)
	}
	if f.Counts != (Totals{1, 2, 3}) || f.MinT != 100 || f.MaxT != 101 || f.AppendedAt != testStart.UnixMilli() {
		t.Errorf("%+v", f)
	}
	if s := f.Samples[0]; s.ST != 5 || s.T != 100 || s.V != 1 {
		t.Errorf("sample %+v", s)
	}
	if s := f.Histograms[0]; s.ST != 7 || s.T != 100 || !s.H.Equals(h) {
		t.Errorf("histogram %+v", s)
	}
	if s := f.FloatHistograms[0]; s.T != 101 || !s.FH.Equals(fh) {
		t.Errorf("float histogram %+v", s)
	}
	if e := f.Exemplars[0]; e.T != 90 || !labels.Equal(e.Labels, traced) {
		t.Errorf("exemplar %+v", e)
	}
	help := func() string { return f.Series[f.Samples[0].Ref].Metadata.Help }
	if help() != "A." {
		t.Errorf("help %q", help())
	}
	if err := r.Next(&f); err != nil || help() != "A, better." {
		t.Errorf("changed help %q, %v", help(), err)
	}
	if err := r.Next(&f); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// TestAppendAllocatesNothing holds the hot path: known series, no allocation.
func TestAppendAllocatesNothing(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	r := roundOf(testSeries(l, 2000), testStart, 0)
	now := testStart
	next := func() {
		now = now.Add(time.Millisecond)
		for i := range r.Samples {
			r.Samples[i].T = now.UnixMilli()
			r.Samples[i].V += 0.37
		}
		if out := mustAppend(t, l, r, now); out.Appended.Samples != 2000 {
			t.Fatalf("%+v", out)
		}
	}
	next()
	// There are none but under the race detector, where sync.Pool, which zstd
	// uses, forgets at random.
	const few = 8
	if n := testing.AllocsPerRun(100, next); n > few {
		t.Errorf("%v allocations per round of 2,000 known series", n)
	}

	mustSync(t, l, now)
	reader := l.Reader(Position{})
	defer reader.Close()
	var f Frame
	read := func() {
		if err := reader.Next(&f); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if n := testing.AllocsPerRun(90, read); n > few {
		t.Errorf("%v allocations per frame of 2,000 samples", n)
	}
}

func TestMetrics(t *testing.T) {
	dir, now := t.TempDir(), testStart
	for i := range 2 { // totals go on over a restart
		reg := prometheus.NewPedanticRegistry()
		l := openTest(t, Options{Path: dir, Registerer: reg})
		now = now.Add(time.Second)
		r := roundOf(testSeries(l, 10), now, 0)
		mustAppend(t, l, r, now)
		mustAppend(t, l, r, now)
		mustSync(t, l, now)
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("lint: %v %v", problems, err)
		}
		want := `
# HELP sql2metrics_wal_appended_samples_total Samples in the log since it began, over restarts.
# TYPE sql2metrics_wal_appended_samples_total counter
sql2metrics_wal_appended_samples_total{kind="exemplar"} 0
sql2metrics_wal_appended_samples_total{kind="histogram"} 0
sql2metrics_wal_appended_samples_total{kind="sample"} ` + []string{"10", "20"}[i] + `
# HELP sql2metrics_wal_refused_samples_total Samples refused because their time was not after the last of their series, or they were too large.
# TYPE sql2metrics_wal_refused_samples_total counter
sql2metrics_wal_refused_samples_total{kind="exemplar"} 0
sql2metrics_wal_refused_samples_total{kind="histogram"} 0
sql2metrics_wal_refused_samples_total{kind="sample"} 10
# HELP sql2metrics_wal_segments Segments of the log on disk.
# TYPE sql2metrics_wal_segments gauge
sql2metrics_wal_segments 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want),
			"sql2metrics_wal_appended_samples_total", "sql2metrics_wal_refused_samples_total", "sql2metrics_wal_segments"); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if families, err := reg.Gather(); err != nil || len(families) > 0 {
			t.Errorf("a closed log still shows %d metrics, %v", len(families), err)
		}
	}
}

// TestSyncTimesAreShown holds that each sync of a segment is a time in the
// histogram, a failed one too, and nothing else is.
func TestSyncTimesAreShown(t *testing.T) {
	spy := &spyFS{calls: map[string]int{}}
	reg := prometheus.NewPedanticRegistry()
	l := openTest(t, Options{Path: t.TempDir(), FS: spy, Registerer: reg})
	series := testSeries(l, 10)
	now := testStart
	times := func() (count uint64, sum float64) {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "sql2metrics_wal_fsync_duration_seconds" {
				h := f.GetMetric()[0].GetHistogram()
				return h.GetSampleCount(), h.GetSampleSum()
			}
		}
		t.Fatal("the times of syncs are not shown")
		return 0, 0
	}
	spy.took()
	for i, fault := range []error{nil, nil, errors.New("disk is gone, says the test"), nil} {
		now = now.Add(time.Second)
		spy.fail(map[string]error{opSyncSegment: fault})
		mustAppend(t, l, roundOf(series, now, 0), now)
		if err := l.Sync(now); !errors.Is(err, fault) {
			t.Fatal(err)
		}
		if count, sum := times(); count != uint64(i+1) || sum <= 0 {
			t.Errorf("after %d syncs: %d times, sum %v", i+1, count, sum)
		}
	}
	before, _ := times()
	mustSync(t, l, now)
	if idle, _ := times(); idle != before {
		t.Errorf("an idle step is %d syncs", idle-before)
	}
}

// TestClosed holds that a closed log says so, and that closing twice is fine.
func TestClosed(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	series := testSeries(l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, appendErr := l.Append(roundOf(series, testStart, 0), testStart)
	_, cursorErr := l.Cursor("mimir", StartEnd)
	got := []bool{errors.Is(appendErr, errClosed), errors.Is(l.Sync(testStart), errClosed), errors.Is(cursorErr, errClosed), l.Close() == nil}
	if diff := cmp.Diff([]bool{true, true, true, true}, got); diff != "" {
		t.Error(diff)
	}
}
