package wal

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"
)

// spyFS counts the operations by name, and lets a test do something before
// each: an error it returns is the operation's. A failing write first writes
// what fault.written says.
type spyFS struct {
	osFileSystem
	mu     sync.Mutex
	calls  map[string]int
	before func(op string) error
}

// fault is an error of a write after so many whole frames and bytes.
type fault struct{ frames, bytes int }

// written is how many bytes of p get to the disk.
func (f fault) written(p []byte) (n int) {
	if f.frames > 0 && string(p[:len(segmentMagic)]) == segmentMagic {
		n = segmentHeaderSize
	}
	for range f.frames {
		h, err := decodeFrameHeader(p[n:])
		if err != nil {
			panic(err)
		}
		n += h.size()
	}
	return n + f.bytes
}

func (fault) Error() string { return "no space left, says the test" }

func (s *spyFS) call(op string) error {
	s.mu.Lock()
	s.calls[op]++
	before := s.before
	s.mu.Unlock()
	if before != nil {
		return before(op)
	}
	return nil
}

// took returns the operations since the last call, those of reading left out.
func (s *spyFS) took() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = map[string]int{}
	delete(calls, opRead)
	return calls
}

func (s *spyFS) on(before func(op string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// fail makes operations of these names fail.
func (s *spyFS) fail(faults map[string]error) {
	s.on(func(op string) error { return faults[op] })
}

func (s *spyFS) MkdirAll(op, path string, perm fs.FileMode) error {
	if err := s.call(op); err != nil {
		return err
	}
	return s.osFileSystem.MkdirAll(op, path, perm)
}

func (s *spyFS) OpenFile(op, path string, flag int, perm fs.FileMode) (File, error) {
	if err := s.call(op); err != nil {
		return nil, err
	}
	f, err := s.osFileSystem.OpenFile(op, path, flag, perm)
	return spyFile{f, s}, err
}

func (s *spyFS) Remove(op, path string) error {
	if err := s.call(op); err != nil {
		return err
	}
	return s.osFileSystem.Remove(op, path)
}

func (s *spyFS) Rename(op, from, to string) error {
	if err := s.call(op); err != nil {
		return err
	}
	return s.osFileSystem.Rename(op, from, to)
}

func (s *spyFS) SyncDir(op, path string) error {
	if err := s.call(op); err != nil {
		return err
	}
	return s.osFileSystem.SyncDir(op, path)
}

type spyFile struct {
	File
	fs *spyFS
}

func (f spyFile) WriteAt(op string, p []byte, off int64) (int, error) {
	if err := f.fs.call(op); err != nil {
		var short fault
		if errors.As(err, &short) {
			f.File.WriteAt(op, p[:short.written(p)], off)
			return short.written(p), err
		}
		return 0, err
	}
	return f.File.WriteAt(op, p, off)
}

// Sync calls the test when it is done, before its caller knows.
func (f spyFile) Sync(op string) error {
	if err := f.File.Sync(op); err != nil {
		return err
	}
	return f.fs.call(op)
}

func (f spyFile) Truncate(op string, size int64) error {
	if err := f.fs.call(op); err != nil {
		return err
	}
	return f.File.Truncate(op, size)
}

// TestFailedWrite appends rounds to a disk that fails in the middle and works
// again: each sample is there once, in order, in every case.
func TestFailedWrite(t *testing.T) {
	noSpace := errors.New("no space left, says the test")
	for name, c := range map[string]struct {
		fresh  bool // the failing round is the segment's first
		faults map[string]error
		want   uint64 // samples of the failed round that are in the log
	}{
		"nothing written":                 {faults: map[string]error{opAppend: fault{}}},
		"written in part":                 {faults: map[string]error{opAppend: fault{0, 500}}},
		"all but one frame written":       {faults: map[string]error{opAppend: fault{2, 10}}},
		"cannot be cut, half a frame":     {faults: map[string]error{opAppend: fault{0, 500}, opCutWrite: noSpace}},
		"cannot be cut, two whole frames": {faults: map[string]error{opAppend: fault{2, 10}, opCutWrite: noSpace}, want: 4000},
		"cannot be cut after a frame":     {faults: map[string]error{opAppend: fault{2, 0}, opCutWrite: noSpace}, want: 4000},
		"first round, nothing written":    {fresh: true, faults: map[string]error{opAppend: fault{}}},
		"first round, header only":        {fresh: true, faults: map[string]error{opAppend: fault{0, 100}}},
		"first round, cannot be removed":  {fresh: true, faults: map[string]error{opAppend: fault{0, 100}, opRemoveSegment: noSpace}},
		"first round, cannot be cut":      {fresh: true, faults: map[string]error{opAppend: fault{0, 100}, opCutWrite: noSpace}},
		"first round, frames stay":        {fresh: true, faults: map[string]error{opAppend: fault{2, 10}, opCutWrite: noSpace}, want: 4000},
		"no segment can be made":          {fresh: true, faults: map[string]error{opCreate: noSpace}},
	} {
		t.Run(name, func(t *testing.T) {
			spy := &spyFS{calls: map[string]int{}}
			dir := t.TempDir()
			l := openTest(t, Options{Path: dir, FS: spy})
			series := testSeries(l, 5000)
			now := testStart
			var want []readSample
			note := func(r *Round) {
				for _, s := range r.Samples {
					want = append(want, readSample{s.Series.Labels().String(), s.T, s.V})
				}
			}
			if !c.fresh {
				// Half of the series are known before, the other half come with the failing round.
				r := roundOf(series[:2500], now, 0)
				mustAppend(t, l, r, now)
				note(r)
			}
			spy.fail(c.faults)
			now = now.Add(time.Second)
			r := roundOf(series, now, 0.1)
			before := l.Stats().Appended
			out := mustAppend(t, l, r, now)
			if (out != Appended{Appended: Totals{Samples: c.want}, Kept: Totals{Samples: 5000 - c.want}}) {
				t.Fatalf("%+v, want %d samples appended and the others kept", out, c.want)
			}
			if s := l.Stats(); s.Appended.Sub(before) != out.Appended || s.Waiting != out.Kept || s.WriteErrors == 0 {
				t.Errorf("%+v, Append says %+v", s, out)
			}
			note(r)
			// As long as one waits the next does too, and may reuse its slices.
			now = now.Add(time.Second)
			r = roundOf(series, now, 0.2)
			note(r)
			if out := mustAppend(t, l, r, now); out.Kept.Samples != 5000 {
				t.Errorf("behind one that waits: %+v", out)
			}
			clear(r.Samples)
			spy.fail(nil)
			mustSync(t, l, now)
			if s := l.Stats(); !s.Waiting.IsZero() || s.Appended.Samples != uint64(len(want)) || s.Lost != (Lost{}) || !s.Refused.IsZero() {
				t.Errorf("after the disk has come back: %+v", s)
			}
			now = now.Add(time.Second)
			r = roundOf(series, now, 0.3)
			mustAppend(t, l, r, now)
			note(r)
			mustSync(t, l, now)
			check := func(got []readSample, evicted, damaged Totals) {
				t.Helper()
				if !slices.Equal(want, got) || !evicted.IsZero() || !damaged.IsZero() {
					t.Errorf("%d samples read, want %d; evicted %+v, damaged %+v", len(got), len(want), evicted, damaged)
				}
			}
			check(readFrom(t, l, Position{}))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			again := openTest(t, Options{Path: dir})
			check(readFrom(t, again, Position{}))
		})
	}
}

// TestFailedSync holds that nothing is read before it is synced, and that the
// next sync makes up for one that failed.
func TestFailedSync(t *testing.T) {
	for _, op := range []string{opSyncSegment, opSyncFolder} {
		t.Run(op, func(t *testing.T) {
			spy := &spyFS{calls: map[string]int{}}
			l := openTest(t, Options{Path: t.TempDir(), FS: spy, SegmentBytes: 1})
			series := testSeries(l, 10)
			for i := range 3 { // three segments
				now := testStart.Add(time.Duration(i) * time.Second)
				mustAppend(t, l, roundOf(series, now, 0), now)
			}
			broken := errors.New("disk is gone, says the test")
			spy.fail(map[string]error{op: broken})
			for range 2 {
				if err := l.Sync(testStart); !errors.Is(err, broken) {
					t.Fatalf("sync returned %v", err)
				}
				if got, _, _ := readFrom(t, l, Position{}); len(got) > 0 {
					t.Fatalf("%d samples can be read that are not synced", len(got))
				}
			}
			spy.fail(nil)
			mustSync(t, l, testStart)
			if got, _, _ := readFrom(t, l, Position{}); len(got) != 30 {
				t.Errorf("%d samples can be read, want 30", len(got))
			}
		})
	}
}

// TestOverdue asks while a sync hangs, as if time had passed.
func TestOverdue(t *testing.T) {
	spy := &spyFS{calls: map[string]int{}}
	l := openTest(t, Options{Path: t.TempDir(), FS: spy, SyncInterval: time.Millisecond})
	in := func(d time.Duration) time.Duration { return l.Overdue(time.Now().Add(d)) }
	if late := in(time.Hour); late != 0 {
		t.Errorf("a loop that was never started is late by %v", late)
	}
	mustAppend(t, l, roundOf(testSeries(l, 10), testStart, 0), testStart)
	syncing, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	spy.on(func(op string) error {
		if op == opSyncSegment {
			once.Do(func() { close(syncing); <-release })
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	<-syncing
	if in(time.Hour) == 0 {
		t.Error("a loop that hangs in a sync for an hour is not late")
	}
	if late := l.Overdue(l.turns.begun); late != 0 {
		t.Errorf("before its turn the loop is late by %v", late)
	}
	close(release)
	cancel()
	<-done
}
