package wal

import (
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
