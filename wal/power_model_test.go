package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// powerModel is the log as a list: a sample is its value, and the index of a
// sample in the list is the running total before it.
type powerModel struct {
	*testing.T
	rng *rand.Rand
	d   *disk
	o   Options
	l   *Log
	now time.Time

	next    float64 // the value of the next sample
	log     []float64
	risky   map[int]bool // may be damaged
	rounds  []float64    // the last sample of each
	rotten  float64      // the newest sample when the end of the log may have rotted
	waiting []float64
	lost    Totals
	synced  int // samples that a sync has covered

	endpoints []*powerEndpoint
	failing   bool
}

type powerEndpoint struct {
	name   string
	cursor *Cursor
	reader *Reader
	place  Position   // of the reader
	saved  []Position // since the last sync, and the one of it
}

// written moves samples from memory to the log.
func (m *powerModel) written(n int) {
	m.log = append(m.log, m.waiting[:n]...)
	m.waiting = m.waiting[n:]
}

// fillVolume lets others take the space that is to be left to them, or give it
// back.
func (m *powerModel) fillVolume() {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.d.free = 1 << 40
	if m.rng.IntN(2) == 0 {
		m.d.free = m.o.MinFree - int64(m.rng.IntN(5000))
	}
}

func (m *powerModel) append() {
	r := &Round{OwnTime: m.rng.IntN(5) == 0}
	n := 1 + m.rng.IntN(100)
	if m.rng.IntN(50) == 0 {
		n = 5000
	}
	var series []*Series
	for range 1 + m.rng.IntN(40) {
		series = append(series, m.l.Series(testLabels(m.rng.IntN(200)), Metadata{Type: "gauge"}))
	}
	for range n {
		m.next++ // is the time as well, so nothing is ever refused
		s := Sample{Series: series[m.rng.IntN(len(series))], T: testStart.UnixMilli() + int64(m.next), V: m.next}
		r.Samples = append(r.Samples, s)
		m.waiting = append(m.waiting, s.V)
	}
	// Other kinds have no list, but the sums must be right.
	for range m.rng.IntN(4) {
		m.next++
		at := testStart.UnixMilli() + int64(m.next)
		s := series[m.rng.IntN(len(series))]
		r.Histograms = append(r.Histograms, Histogram{Series: s, T: at, H: &histogram.Histogram{Schema: 1, Count: 2, Sum: m.next,
			PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{2}}})
		r.Exemplars = append(r.Exemplars, Exemplar{Series: s, T: at, V: m.next, Labels: labels.FromStrings("trace_id", fmt.Sprint(m.next))})
	}
	// The state of a round is its last sample, and sometimes much more.
	last := r.Samples[n-1].V
	m.rounds = append(m.rounds, last)
	r.State = []State{{"last", binary.LittleEndian.AppendUint64(nil, uint64(last))}}
	if m.rng.IntN(20) == 0 {
		r.State = append(r.State, State{fmt.Sprint(m.rng.IntN(5)), make([]byte, m.rng.IntN(2000))})
	}
	out, err := m.l.Append(r, m.now)
	if err != nil || int(out.Appended.Samples+out.Kept.Samples) != n {
		m.Fatalf("append of %d: %+v, %v", n, out, err)
	}
	if !out.Kept.IsZero() && !m.failing && len(m.waiting) == n {
		m.Fatalf("%+v of %d while nothing fails", out, n)
	}
	m.fallOut()
	m.written(int(out.Appended.Samples))
	for _, s := range series {
		m.l.Release(s)
	}
}

// fallOut removes what has fallen out of memory.
func (m *powerModel) fallOut() {
	lost := m.l.Stats().Lost.total()
	m.waiting = m.waiting[lost.Sub(m.lost).Samples:]
	m.lost = lost
}

func (m *powerModel) sync() {
	before := m.l.Stats().Appended
	err := m.l.Sync(m.now)
	m.written(int(m.l.Stats().Appended.Sub(before).Samples))
	s := m.l.Stats()
	m.synced = int(s.Synced.Totals.Samples)
	if err != nil {
		if !m.failing {
			m.Fatal(err)
		}
		return
	}
	if m.synced != len(m.log) {
		m.Fatalf("synced %d of %d samples", m.synced, len(m.log))
	}
	for _, e := range m.endpoints {
		e.saved = e.saved[len(e.saved)-1:]
	}
	if s.Bytes > s.MaxBytes && !m.failing && !m.l.segments[len(m.l.segments)-1].headless { // else the next one frees those before
		m.Fatalf("%d bytes, %d segments", s.Bytes, s.Segments)
	}
}

func (m *powerModel) mustSync() {
	m.Helper()
	m.sync()
	if m.synced != len(m.log) {
		m.Fatalf("synced %d of %d samples", m.synced, len(m.log))
	}
}

func (m *powerModel) read(e *powerEndpoint) {
	var f Frame
	for range 1 + m.rng.IntN(30) {
		err := e.reader.Next(&f)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if !m.failing {
				m.Fatal(err)
			}
			break
		}
		m.check(e, &f)
		e.place = f.Position
		if m.rng.IntN(3) > 0 {
			continue
		}
		if err := e.cursor.Save(f.Position, nil); err == nil {
			e.saved = append(e.saved, f.Position)
		} else if !m.failing {
			m.Fatal(err)
		} else {
			e.saved = slices.Insert(e.saved, len(e.saved)-1, f.Position) // it may be on the disk all the same
		}
	}
	if m.rng.IntN(10) == 0 {
		e.reader.Close()
		e.reader = m.l.Reader(e.place)
	}
}

// check compares a frame, and what is missing before it, with the list.
func (m *powerModel) check(e *powerEndpoint, f *Frame) {
	m.Helper()
	from, to := int(e.place.Totals.Samples), int(f.Position.Totals.Samples)
	if to > m.synced {
		m.Fatalf("%s reads up to %d, synced are %d", e.name, to, m.synced)
	}
	if n := f.Counts.Add(f.Evicted).Add(f.Damaged); n != f.Position.Totals.Sub(e.place.Totals) {
		m.Fatalf("%s from %d to %d: %+v, evicted %+v, damaged %+v", e.name, from, to, f.Counts, f.Evicted, f.Damaged)
	}
	oldest := int(m.l.Stats().Oldest.Totals.Samples)
	got := f.Samples
	for i := from; i < to; i++ {
		if len(got) > 0 && got[0].V == m.log[i] {
			if want := testStart.UnixMilli() + int64(m.log[i]); got[0].T != want || f.Series[got[0].Ref].Labels.IsEmpty() {
				m.Fatalf("%s: sample %v at %d of %v", e.name, got[0], want, f.Series[got[0].Ref])
			}
			got = got[1:]
		} else if !m.risky[i] && i >= oldest {
			m.Fatalf("%s lacks sample %d, which was synced, not damaged and not evicted (oldest %d); frame to %d", e.name, i, oldest, to)
		}
	}
	if len(got) > 0 {
		m.Fatalf("%s gets %d samples that are not between %d and %d, first %+v", e.name, len(got), from, to, got[0])
	}
}

// checkState compares the state that is left with the samples that are: it is
// that of the newest round which is there whole, or of one before if that may
// be damaged.
func (m *powerModel) checkState() {
	m.Helper()
	var got, most, least float64
	if b := m.l.State("last"); b != nil {
		got = float64(binary.LittleEndian.Uint64(b))
	}
	for _, last := range m.rounds {
		i, there := slices.BinarySearch(m.log, last)
		if there {
			most = last
		}
		if there && !m.risky[i] && last > m.rotten {
			least = last
		}
	}
	if len(m.l.segments) == 0 {
		least = 0 // all that was synced was evicted before anything else could be
	}
	if got > most || got < least {
		m.Fatalf("state is of sample %v, and the newest round left ends with %v or %v", got, least, most)
	}
}
