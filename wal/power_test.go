package wal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	powerSeed  = flag.Uint64("power.seed", 0, "run the model against failing disks with this seed alone")
	powerSteps = flag.Int("power.steps", 3000, "steps of each run of the model against failing disks")
)

// TestPower makes random appends, reads, saves and syncs on a disk whose
// operations fail, whose files rot, and whose power goes, and compares each
// step with a list of samples:
//
//   - What a sync that returned has covered is there after any cut.
//   - Each endpoint gets every sample once and in order, or it is counted in
//     the frame after it, and then it was evicted, in a damaged segment, or
//     not yet synced when the power went.
//   - A cursor is never behind its last sync, nor ahead of the log.
//   - What waits in memory is written in order, or counted as lost.
func TestPower(t *testing.T) {
	seeds := []uint64{*powerSeed}
	if *powerSeed == 0 {
		seeds = []uint64{rand.Uint64(), rand.Uint64(), rand.Uint64()}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newPowerModel(t, seed)
			for i := range *powerSteps {
				m.step()
				if t.Failed() {
					t.Fatalf("at step %d; again with -run TestPower -power.seed=%d", i, seed)
				}
			}
			m.finish()
		})
	}
}

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

func newPowerModel(t *testing.T, seed uint64) *powerModel {
	d := newDisk(seed)
	m := &powerModel{
		T: t, rng: rand.New(rand.NewPCG(seed, 2)), d: d, now: testStart, risky: map[int]bool{},
		o: Options{
			Path: t.TempDir(), FS: d, MaxBytes: 150_000, SegmentBytes: 6000, SegmentAge: 20 * time.Second,
			MaxAge: 1 << 62, MinFree: -1,
		},
		endpoints: []*powerEndpoint{{name: "quick"}, {name: "slow"}, {name: "dead"}},
	}
	m.open()
	m.mustSync()
	t.Cleanup(func() {
		m.failing = false
		d.failing(nil)
		m.close()
	})
	return m
}

func (m *powerModel) open() {
	m.Helper()
	var err error
	if m.l, err = Open(context.Background(), m.o, m.now); err != nil {
		m.Fatal(err)
	}
	m.lost = Totals{}
	for _, e := range m.endpoints {
		if e.cursor, err = m.l.Cursor(e.name, StartOldest); err != nil {
			m.Fatal(err)
		}
		e.place = e.cursor.Position()
		if len(e.saved) > 0 && !slices.Contains(e.saved, e.place) {
			m.Fatalf("cursor %s is at %+v, saved were %+v", e.name, e.place, e.saved)
		}
		e.saved = []Position{e.place}
		e.reader = m.l.Reader(e.place)
	}
}

func (m *powerModel) close() {
	m.Helper()
	for _, e := range m.endpoints {
		e.reader.Close()
	}
	waited := len(m.waiting)
	before := m.l.end.Totals
	err := m.l.Close()
	if err != nil && !m.failing {
		m.Error(err)
	}
	written := int(m.l.end.Totals.Sub(before).Samples)
	m.written(written)
	if lost := m.l.lost.total().Sub(m.lost); int(lost.Samples)+written != waited {
		m.Fatalf("at the end %d samples waited, %d were written, %d lost", waited, written, lost.Samples)
	}
	m.waiting = nil
}

// written moves samples from memory to the log.
func (m *powerModel) written(n int) {
	m.log = append(m.log, m.waiting[:n]...)
	m.waiting = m.waiting[n:]
}

func (m *powerModel) step() {
	m.now = m.now.Add(time.Duration(m.rng.IntN(1000)) * time.Millisecond)
	m.d.now = m.now
	switch n := m.rng.IntN(100); {
	case n < 40:
		m.append()
	case n < 60:
		m.sync()
	case n < 90:
		m.read(m.endpoints[m.rng.IntN(2)])
	case n < 91:
		m.read(m.endpoints[2])
	case n < 94:
		m.toggleFaults()
	case n < 96:
		m.rot()
	case n < 98:
		m.restart(m.rng.IntN(3) > 0)
	}
	if got := int(m.l.Stats().Appended.Samples); got != len(m.log) {
		m.Fatalf("log has %d samples, model %d", got, len(m.log))
	}
	if got := int(m.l.Stats().Waiting.Samples); got != len(m.waiting) {
		m.Fatalf("%d samples wait, in the model %d", got, len(m.waiting))
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
	if s.Bytes > s.MaxBytes && !m.failing {
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
	if n := f.Counts.Add(f.Evicted).Add(f.Damaged); int(n.Samples) != to-from {
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

func (m *powerModel) toggleFaults() {
	m.failing = !m.failing
	if !m.failing {
		m.d.failing(nil)
		return
	}
	all := []string{
		opAppend, opCreate, opSeal, opCutWrite, opSyncSegment, opSyncFolder, opRewrite, opSyncRewrite, opRename,
		opRemoveSegment, opSaveCursor, opSyncCursor, opFree, opMeasure, opRead, opQuarantine,
	}
	errs := []error{unix.ENOSPC, unix.EIO, unix.EROFS}
	faults := map[string]error{}
	for range 1 + m.rng.IntN(6) {
		faults[all[m.rng.IntN(len(all))]] = errs[m.rng.IntN(len(errs))]
	}
	often := 1 + m.rng.IntN(3)
	m.d.mu.Lock()
	m.d.fault = func(op, _ string) error {
		if m.d.rng.IntN(often) > 0 {
			return nil
		}
		return faults[op]
	}
	m.d.mu.Unlock()
}

// rot damages a few bytes of a sealed segment that is synced.
func (m *powerModel) rot() {
	var paths []string
	for path, f := range m.d.files {
		if strings.HasSuffix(path, segmentSuffix) && len(f.changes) == 0 && len(f.content) > 0 {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	if len(paths) < 4 || m.rng.IntN(4) > 0 {
		return
	}
	path := paths[m.rng.IntN(len(paths)-2)]
	first, _ := segmentName(filepath.Base(path))
	i := slices.IndexFunc(m.l.segments, func(s segment) bool { return s.first == first })
	if i < 0 || i > len(m.l.segments)-3 {
		return
	}
	for n := m.l.segments[i].start.Samples; n < m.l.segments[i+1].start.Samples; n++ {
		m.risky[int(n)] = true
	}
	f := m.d.files[path]
	at := m.rng.IntN(len(f.content))
	to := min(at+1+m.rng.IntN(300), len(f.content))
	for j := at; j < to; j++ {
		f.content[j] ^= byte(1 + m.rng.IntN(255))
	}
	f.synced = slices.Clone(f.content)
}

// restart ends the process, by a power cut or as it should be.
func (m *powerModel) restart(cut bool) {
	if !cut {
		failing := m.failing
		m.close()
		m.failing = false
		m.d.failing(nil)
		if failing {
			// What could not be synced is for the kernel to keep, which a
			// next process cannot see: the machine goes with this one.
			m.d.cut()
			m.reopen()
			return
		}
		m.open()
		m.mustSync()
		return
	}
	m.failing = false
	m.d.failing(nil)
	for _, e := range m.endpoints {
		e.reader.Close()
	}
	cutPower(m, m.l, m.d)
	m.waiting = nil
	m.reopen()
}

// reopen opens a log that may have lost what was not synced, and something in
// the middle of it.
func (m *powerModel) reopen() {
	m.open()
	n := int(m.l.Stats().Appended.Samples)
	if n < m.synced || n > len(m.log) {
		m.Fatalf("%d samples are left; %d were synced, %d appended", n, m.synced, len(m.log))
	}
	for i := m.synced; i < n; i++ {
		m.risky[i] = true
	}
	for i := n; i < len(m.log); i++ {
		delete(m.risky, i)
	}
	m.log = m.log[:n]
	m.mustSync()
}

func (m *powerModel) finish() {
	m.failing = false
	m.d.failing(nil)
	m.mustSync() // writes what waits
	m.append()   // what is missing at the end is known when something follows
	m.mustSync()
	for _, e := range m.endpoints {
		for e.place.Totals.Samples < uint64(len(m.log)) {
			before := e.place
			m.read(e)
			if e.place == before {
				m.Fatalf("%s stands at %+v of %d", e.name, e.place, len(m.log))
			}
		}
	}
	m.Logf("%d samples, %d could be damaged, evicted up to %d, %d damaged bytes",
		len(m.log), len(m.risky), m.l.Stats().Oldest.Totals.Samples, m.l.Stats().DamagedBytes)
}
