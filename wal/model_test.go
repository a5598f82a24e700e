package wal

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// logModel is the log in a few lines: what it holds, and what it refuses.
type logModel struct {
	samples []readSample
	own     []bool // whether the sample's time was its own
	last    map[string]int64
	floor   int64
}

func (m *logModel) append(r *Round) (appended int) {
	for _, s := range r.Samples {
		name := s.Series.Labels().String()
		last, known := m.last[name]
		if known && s.T <= last || !known && !r.OwnTime && s.T <= m.floor {
			continue
		}
		m.last[name] = s.T
		m.samples = append(m.samples, readSample{name, s.T, s.V})
		m.own = append(m.own, r.OwnTime)
		appended++
	}
	return appended
}

// crash leaves the first n samples and forgets what a process knows.
func (m *logModel) crash(n int) {
	m.samples, m.own = m.samples[:n], m.own[:n]
	m.last, m.floor = map[string]int64{}, noFloor
	for i, s := range m.samples {
		if !m.own[i] {
			m.floor = max(m.floor, s.T)
		}
	}
}

// TestModel makes random appends, syncs, reads from saved positions and
// crashes that tear the last write at any byte, and compares with the model.
func TestModel(t *testing.T) {
	runs := 10
	switch {
	case os.Getenv("SOAK") != "":
		runs = 300
	case testing.Short():
		runs = 4
	}
	for range runs {
		seed := rand.Uint64()
		if !t.Run("", func(t *testing.T) { testModel(t, seed) }) {
			t.Fatalf("seed %d", seed)
		}
	}
}

func testModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	m := &logModel{last: map[string]int64{}, floor: noFloor}
	now := testStart
	var (
		l      *Log
		series []*Series
		reader *Reader
		read   []readSample // by the reader, over all reopens
		place  Position     // the reader's
	)
	open := func() {
		l = openTest(t, Options{Path: dir, SegmentBytes: 1 << (12 + rng.IntN(6)), SegmentAge: time.Duration(1+rng.IntN(60)) * time.Second})
		if got := int(l.Stats().Appended.Samples); got != len(m.samples) {
			t.Fatalf("log has %d samples, model %d", got, len(m.samples))
		}
		series = nil
		reader = l.Reader(place)
	}
	appendRound := func() {
		for len(series) < 30 {
			series = append(series, l.Series(testLabels(rng.IntN(200)), Metadata{Type: "gauge"}))
		}
		n := 1 + rng.IntN(60)
		if rng.IntN(8) == 0 {
			n = 6000 // several frames, most of it refused
		}
		r := &Round{OwnTime: rng.IntN(5) == 0}
		for range n {
			at := now.UnixMilli() + int64(rng.IntN(40)) - 20
			if r.OwnTime {
				at -= int64(rng.IntN(100_000))
			}
			r.Samples = append(r.Samples, Sample{Series: series[rng.IntN(len(series))], T: at, V: rng.Float64()})
		}
		want := m.append(r)
		out := mustAppend(t, l, r, now)
		if int(out.Appended.Samples) != want || int(out.Refused.Samples) != n-want {
			t.Fatalf("append of %d: %+v; model appends %d", n, out, want)
		}
		for i := 0; i < len(series); i++ {
			if rng.IntN(20) == 0 {
				l.Release(series[i])
				series = append(series[:i], series[i+1:]...)
			}
		}
	}
	catchUp := func() {
		var f Frame
		for reader.Next(&f) == nil {
			for _, s := range f.Samples {
				read = append(read, readSample{f.Series[s.Ref].Labels.String(), s.T, s.V})
			}
			if !f.Damaged.IsZero() || !f.Evicted.IsZero() {
				t.Fatalf("damaged %+v, evicted %+v", f.Damaged, f.Evicted)
			}
			place = f.Position
			if int(place.Totals.Samples) != len(read) {
				t.Fatalf("position after %d samples says %d", len(read), place.Totals.Samples)
			}
			if rng.IntN(30) == 0 {
				break
			}
		}
	}
	crash := func() {
		mustSync(t, l, now)
		before := l.end
		appendRound()
		after := l.end
		reader.Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if after == before {
			m.crash(len(m.samples))
			open()
			return
		}
		path := segmentPath(dir, after.Segment)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		from := 0
		if after.Segment == before.Segment {
			from = int(before.Offset)
		}
		cut := from + rng.IntN(len(b)-from+1)
		if err := os.Truncate(path, int64(cut)); err != nil {
			t.Fatal(err)
		}
		left := before.Totals
		for off := max(from, segmentHeaderSize); off+frameHeaderSize <= cut; {
			h, err := decodeFrameHeader(b[off:])
			if err != nil {
				t.Fatal(err)
			}
			if off += h.size(); off <= cut {
				left = h.after()
			}
		}
		m.crash(int(left.Samples))
		open()
	}

	open()
	for range 150 {
		now = now.Add(time.Duration(rng.IntN(1000)) * time.Millisecond)
		switch n := rng.IntN(20); {
		case n < 12:
			appendRound()
		case n < 15:
			mustSync(t, l, now)
		case n < 18:
			catchUp()
		case n < 19:
			reader.Close()
			reader = l.Reader(place)
		default:
			crash()
		}
	}
	mustSync(t, l, now)
	for len(read) < len(m.samples) {
		before := len(read)
		catchUp()
		if len(read) == before {
			break
		}
	}
	reader.Close()
	if diff := cmp.Diff(m.samples, read); diff != "" {
		t.Errorf("samples (-model +read):\n%.2000s", diff)
	}
}
