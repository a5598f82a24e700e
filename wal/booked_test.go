package wal

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"
)

// TestBookedInStep appends from several goroutines to a disk that is full for
// a while, and audits all along: what was handed over always adds up with what
// the log says of it, and what became of each round with its totals.
func TestBookedInStep(t *testing.T) {
	const writers, rounds = 4, 300
	d := newDisk(1)
	dir := t.TempDir()
	before := openTest(t, Options{Path: dir, FS: d})
	mustAppend(t, before, roundOf(testSeries(before, 3), testStart, 0), testStart)
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	l := openTest(t, Options{Path: dir, FS: d, SegmentBytes: 16 << 10})

	var handed, appended, refused Totals // what Booked writes, and Audit reads
	audit := func() (s Stats) {
		l.Audit(func(now Stats) {
			s = now
			gone := s.Appended.Sub(s.Opened).Add(s.Refused).Add(s.Waiting).Add(s.Lost.total())
			if handed != gone {
				t.Errorf("handed over: %v, accounted for: %v", handed, gone)
			}
			if since := s.Appended.Sub(s.Opened); !since.cover(appended) || !s.Refused.cover(refused) {
				t.Errorf("the log has %v and refused %v, writers were told of %v and %v", since, s.Refused, appended, refused)
			}
		})
		return s
	}
	var working, auditing sync.WaitGroup
	done := make(chan struct{})
	auditing.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				audit()
			}
		}
	})
	for w := range writers {
		working.Go(func() {
			series := l.Series(labels.FromStrings("__name__", "due", "writer", strconv.Itoa(w)), Metadata{})
			native := l.Series(labels.FromStrings("__name__", "wait", "writer", strconv.Itoa(w)), Metadata{})
			var r Round
			r.Booked = func(a Appended) {
				handed = handed.Add(r.Totals())
				appended, refused = appended.Add(a.Appended), refused.Add(a.Refused)
			}
			for i := range rounds {
				now := testStart.Add(time.Duration(i) * time.Second)
				at := now.UnixMilli()
				r.Samples = append(r.Samples[:0], Sample{Series: series, T: at}, Sample{Series: series, T: at - int64(i%3)})
				r.Histograms = append(r.Histograms[:0], Histogram{Series: native, T: at, H: &histogram.Histogram{}})
				r.Exemplars = append(r.Exemplars[:0], Exemplar{Series: series, T: at})
				_, _ = l.Append(&r, now) // a round too large to wait is lost, and counted
				switch {
				case w > 0:
				case i == rounds/3:
					d.failing(map[string]error{opAppend: unix.ENOSPC})
				case i == 2*rounds/3:
					d.failing(nil)
				case i%20 == 0:
					_ = l.Sync(now)
				}
			}
		})
	}
	working.Wait()
	close(done)
	auditing.Wait()
	mustSync(t, l, testStart.Add(time.Hour))
	if s := audit(); !s.Waiting.IsZero() || s.Opened.Samples != 3 || s.Refused.Samples == 0 || s.Appended.Histograms == 0 || s.Appended.Exemplars == 0 {
		t.Errorf("the test is too tame: %+v", s)
	}
}
