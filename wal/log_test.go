package wal

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAppendSyncRead(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	series := testSeries(l, 4500)
	c, err := l.Cursor("mimir", StartEnd)
	if err != nil {
		t.Fatal(err)
	}
	var want []readSample
	for i := range 3 {
		now := testStart.Add(time.Duration(i) * time.Second)
		r := roundOf(series, now, float64(i))
		if out := mustAppend(t, l, r, now); out.Appended.Samples != 4500 || !out.Refused.IsZero() {
			t.Fatalf("round %d: %+v", i, out)
		}
		for _, s := range r.Samples {
			want = append(want, readSample{s.Series.Labels().String(), s.T, s.V})
		}
	}
	if got, _, _ := readFrom(t, l, c.Position()); got != nil {
		t.Fatalf("%d samples can be read before they are synced", len(got))
	}
	changed := l.Changed()
	mustSync(t, l, testStart.Add(3*time.Second))
	select {
	case <-changed:
	default:
		t.Error("sync did not close the channel of Changed")
	}
	r := l.Reader(c.Position())
	defer r.Close()
	got, evicted, damaged := readAll(t, r)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples read (-want +got):\n%s", diff)
	}
	if !evicted.IsZero() || !damaged.IsZero() {
		t.Errorf("evicted %+v, damaged %+v", evicted, damaged)
	}
	if err := c.Save(r.passed, []byte("state")); err != nil {
		t.Fatal(err)
	}
}

// TestBesideEachOther lets workers append, Run sync, and two endpoints read
// and save, all at once: each endpoint gets every sample, in order per series.
func TestBesideEachOther(t *testing.T) {
	for name, mode := range map[string]Sync{"interval": SyncInterval, "always": SyncAlways, "never": SyncNever} {
		t.Run(name, func(t *testing.T) {
			const workers, rounds, size = 4, 30, 50
			l := openTest(t, Options{Path: t.TempDir(), Sync: mode, SyncInterval: time.Millisecond, SegmentBytes: 10_000})
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var cursors [2]*Cursor
			for i, name := range []string{"mimir", "thanos"} {
				var err error
				if cursors[i], err = l.Cursor(name, StartEnd); err != nil {
					t.Fatal(err)
				}
			}
			var running, working sync.WaitGroup
			running.Go(func() { l.Run(ctx) })
			for w := range workers {
				working.Go(func() {
					for i := range rounds {
						var series []*Series
						for n := range size {
							series = append(series, l.Series(testLabels(w*size+n), Metadata{}))
						}
						now := testStart.Add(time.Duration(i) * time.Second)
						out, err := l.Append(roundOf(series, now, 0), now)
						if err != nil || out.Appended.Samples != size {
							t.Errorf("%+v, %v", out, err)
							stop()
						}
						for _, s := range series {
							l.Release(s)
						}
					}
				})
			}
			for _, c := range cursors {
				working.Go(func() {
					r := l.Reader(c.Position())
					defer r.Close()
					var f Frame
					last := map[string]int64{}
					for read := 0; read < workers*rounds*size; {
						changed := l.Changed()
						err := r.Next(&f)
						if errors.Is(err, io.EOF) {
							select {
							case <-changed:
								continue
							case <-ctx.Done():
								return
							}
						}
						if err != nil || !f.Evicted.IsZero() || !f.Damaged.IsZero() {
							t.Errorf("evicted %+v, damaged %+v, %v", f.Evicted, f.Damaged, err)
							return
						}
						for _, s := range f.Samples {
							name := f.Series[s.Ref].Labels.String()
							if s.T <= last[name] {
								t.Errorf("%s goes from %d back to %d", name, last[name], s.T)
							}
							last[name] = s.T
						}
						read += len(f.Samples)
						if err := c.Save(f.Position, nil); err != nil {
							t.Error(err)
						}
						l.Stats()
					}
				})
			}
			working.Wait()
			stop()
			running.Wait()
			mustSync(t, l, testStart)
			if s := l.Stats(); s.Segments > 2 {
				t.Errorf("%d segments are left though all have passed them", s.Segments)
			}
		})
	}
}
