package wal

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
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
	runs := 3
	if os.Getenv("SOAK") != "" {
		runs = 100
	}
	if *powerSeed != 0 {
		runs = 1
	}
	for range runs {
		seed := *powerSeed
		if seed == 0 {
			seed = rand.Uint64()
		}
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

func newPowerModel(t *testing.T, seed uint64) *powerModel {
	d := newDisk(seed)
	m := &powerModel{
		T: t, rng: rand.New(rand.NewPCG(seed, 2)), d: d, now: testStart, risky: map[int]bool{},
		o: Options{
			Path: t.TempDir(), FS: d, MaxBytes: 150_000, SegmentBytes: 6000, SegmentAge: 20 * time.Second,
			MaxAge: 10 * time.Minute, MinFree: 1 << 20,
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
	case n < 99:
		m.fillVolume()
	}
	if got := int(m.l.Stats().Appended.Samples); got != len(m.log) {
		m.Fatalf("log has %d samples, model %d", got, len(m.log))
	}
	if got := int(m.l.Stats().Waiting.Samples); got != len(m.waiting) {
		m.Fatalf("%d samples wait, in the model %d", got, len(m.waiting))
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
	m.rotIn(m.d.files[path], m.l.segments[i].start, m.l.segments[i+1].start)
}

// rotAny damages a few bytes of any segment, the newest one too, while no log
// is open.
func (m *powerModel) rotAny() {
	m.rotten = m.next
	if len(m.l.segments) == 0 {
		return
	}
	i := m.rng.IntN(len(m.l.segments))
	s := m.l.segments[i]
	f := m.d.files[m.l.segmentPath(s.first)]
	if f == nil || len(f.content) == 0 {
		return
	}
	end := m.l.end.Totals
	if i+1 < len(m.l.segments) {
		end = m.l.segments[i+1].start
	}
	m.rotIn(f, s.start, end)
}

// rotIn damages a few bytes of a file that has the samples of a range.
func (m *powerModel) rotIn(f *diskFile, from, to Totals) {
	for n := from.Samples; n < to.Samples; n++ {
		m.risky[int(n)] = true
	}
	at := m.rng.IntN(len(f.content))
	for j := at; j < min(at+1+m.rng.IntN(300), len(f.content)); j++ {
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
		if m.rng.IntN(3) == 0 {
			m.rotAny()
		}
		m.open()
		m.checkState()
		// Whatever has rotted, an end that was orderly is known.
		if got := int(m.l.Stats().Appended.Samples); got != len(m.log) {
			m.Fatalf("log has %d samples after an orderly end, model %d", got, len(m.log))
		}
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
	m.checkState()
	if m.rng.IntN(2) == 0 {
		m.synced = int(m.l.Stats().Synced.Totals.Samples) // by Open
		if m.synced != n {
			m.Fatalf("synced %d of %d samples after a start", m.synced, n)
		}
		return
	}
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
