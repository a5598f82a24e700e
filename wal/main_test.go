package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("WAL_TEST_APPENDER"); dir != "" {
		appendUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

var testStart = time.UnixMilli(1_700_000_000_000)

// openTest opens a log that keeps what it has however old it is and however
// full the machine, unless the options say otherwise.
func openTest(t testing.TB, o Options) *Log {
	t.Helper()
	if o.MaxAge == 0 {
		o.MaxAge = 1 << 62
	}
	if o.MinFree == 0 {
		o.MinFree = -1
	}
	if o.Logger == nil {
		o.Logger = textLogger(testWriter{t})
	}
	l, err := Open(context.Background(), o, testStart)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// testWriter sends the log's own log to the test's.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func testLabels(i int) labels.Labels {
	return labels.FromStrings("__name__", "orders", "job", "postgres", "instance", "orders-0:5432",
		"region", fmt.Sprintf("region-%d", i%7), "status", fmt.Sprintf("status-%d", i))
}

func testSeries(l *Log, n int) []*Series {
	all := make([]*Series, n)
	for i := range all {
		all[i] = l.Series(testLabels(i), Metadata{Type: "gauge", Help: "Orders by status."})
	}
	return all
}

// roundOf is one sample of each series.
func roundOf(series []*Series, at time.Time, v float64) *Round {
	r := &Round{}
	for i, s := range series {
		r.Samples = append(r.Samples, Sample{Series: s, T: at.UnixMilli(), V: v + float64(i)})
	}
	return r
}

func mustAppend(t testing.TB, l *Log, r *Round, now time.Time) Appended {
	t.Helper()
	out, err := l.Append(r, now)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mustSync(t testing.TB, l *Log, now time.Time) {
	t.Helper()
	if err := l.Sync(now); err != nil {
		t.Fatal(err)
	}
}

// readSample is a sample as a reader sees it, by its labels.
type readSample struct {
	Labels string
	T      int64
	V      float64
}

// readAll reads to the end and returns the samples, what was evicted and what
// was damaged.
func readAll(t testing.TB, r *Reader) (samples []readSample, evicted, damaged Totals) {
	t.Helper()
	var f Frame
	var names []string // of the series of a segment, by reference
	var segment uint64
	for {
		err := r.Next(&f)
		if errors.Is(err, io.EOF) {
			return samples, evicted, damaged
		}
		if err != nil {
			t.Fatal(err)
		}
		evicted, damaged = evicted.Add(f.Evicted), damaged.Add(f.Damaged)
		if f.Position.Segment != segment {
			names, segment = nil, f.Position.Segment
		}
		for _, series := range f.Series[len(names):] {
			names = append(names, series.Labels.String())
		}
		for _, s := range f.Samples {
			samples = append(samples, readSample{names[s.Ref], s.T, s.V})
		}
	}
}

func readFrom(t testing.TB, l *Log, from Position) (samples []readSample, evicted, damaged Totals) {
	t.Helper()
	r := l.Reader(from)
	defer r.Close()
	return readAll(t, r)
}
