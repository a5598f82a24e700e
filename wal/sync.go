package wal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sync says when appended frames are made safe against power loss. A killed
// process loses nothing in any mode.
type Sync int

// The sync modes.
const (
	SyncInterval Sync = iota // a group sync each Options.SyncInterval
	SyncAlways               // Append returns after a sync; rounds that wait share one
	SyncNever                // the kernel decides; written counts as synced
)

// maxSeq asks syncer.to for all there is.
const maxSeq = math.MaxUint64

// Sync is the step that Run makes each interval: it writes what waits in
// memory, seals a segment that has grown too old, syncs frames and then
// cursors, removes the segments that all open cursors have passed, takes up one
// that an older version has set aside, and keeps the bounds. Appends go on
// meanwhile. After an error the synced position stands where it was, and
// the next call tries again: what could not be synced is written again first,
// to a new segment.
// Anyone may call it.
func (l *Log) Sync(now time.Time) error {
	l.noticeVanished()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosed
	}
	l.writeWaiting(now.UnixMilli())
	if ms := now.UnixMilli(); l.open != nil && l.due(ms) {
		l.seal(ms)
	}
	l.publish()
	l.mu.Unlock()

	err := l.syncer.to(maxSeq)
	if err == nil {
		err = l.cursors.sync(l.o.Sync != SyncNever)
	}
	if err == nil {
		err = l.removePassed()
	}
	if err == nil {
		err = l.takeUp(now.UnixMilli())
	}
	l.bound(now.UnixMilli())
	return err
}

// Run calls Sync each SyncInterval until ctx ends. The first error of a row
// is logged, and so is the end of the row.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(l.o.SyncInterval)
	defer tick.Stop()
	l.turns.turn(time.Now())
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			l.turns.turn(now)
			err := l.Sync(now)
			switch {
			case errors.Is(err, errClosed):
				return
			case err != nil && !failing:
				l.log.Error("log cannot be synced; what is appended is kept and shipped when it can", "path", l.o.Path, "err", err)
			case err == nil && failing:
				l.log.Info("log is synced again", "path", l.o.Path)
			}
			failing = err != nil
		}
	}
}

// turns keeps when Run last turned, in a time that no change of the clock
// moves.
type turns struct {
	begun time.Time
	last  atomic.Int64 // nanoseconds since begun; 0 before the first
}

func (t *turns) turn(now time.Time) { t.last.Store(max(1, int64(now.Sub(t.begun)))) }

// Overdue returns for how long Run should have called Sync and has not, because
// the last call waits for a disk that does not answer. It is zero before Run
// begins. Anyone may call it; it does not wait.
func (l *Log) Overdue(now time.Time) time.Duration {
	last := time.Duration(l.turns.last.Load())
	if last == 0 {
		return 0
	}
	return max(0, now.Sub(l.turns.begun)-last-l.o.SyncInterval)
}

// syncer syncs frames, one at a time: those who wait for their turn most often
// find it done by the one before them.
type syncer struct {
	log *Log
	mu  sync.Mutex // held over the sync, and taken before Log.mu
}

// to returns when everything up to that sequence number is synced. One sync
// covers all who have appended before it began.
func (s *syncer) to(seq uint64) error {
	l := s.log
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.published.get().Synced.Seq >= seq {
		return nil
	}
	if err := s.rewriteFailed(); err != nil {
		s.countError()
		return err
	}

	l.mu.Lock()
	rolled, open, end, folder := l.rolled, l.open, l.end, l.folderChanged
	l.rolled, l.folderChanged = nil, false
	var size int64
	var at tailStart
	if open != nil {
		size, at = open.size, l.here()
	}
	l.mu.Unlock()

	done, err := s.files(rolled, open, end, &folder)

	l.mu.Lock()
	for _, seg := range rolled[:done] {
		l.forgetTail(seg)
	}
	l.rolled = append(rolled[done:len(rolled):len(rolled)], l.rolled...)
	for _, seg := range rolled[done:] {
		if !slices.ContainsFunc(l.segments, func(s segment) bool { return s.first == seg.header.first }) {
			l.dropRolled(seg.header.first) // removed meanwhile
		}
	}
	l.folderChanged = l.folderChanged || folder
	if err == nil && open != nil {
		l.synced(open, size, at)
	}
	if open != nil && open.failed && l.open == open {
		l.leave(open)
	}
	l.mu.Unlock()
	if err != nil {
		s.countError()
		return err
	}
	l.published.advance(end)
	return nil
}

func (s *syncer) countError() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.writeErrors++
}

// files syncs what has changed, in the order that keeps an older frame from
// being less safe than a newer one, and returns how many of rolled are done
// with. The caller holds s.mu and not Log.mu.
func (s *syncer) files(rolled []*openSegment, open *openSegment, end Position, folder *bool) (done int, err error) {
	l := s.log
	for ; done < len(rolled); done++ {
		seg := rolled[done]
		if err := s.file(seg); err != nil {
			return done, err
		}
		if err := seg.file.Close(); err != nil {
			l.log.Warn("close failed", "segment", l.segmentPath(seg.header.first), "err", err)
		}
	}
	if synced := l.published.get().Synced; open != nil && synced != end {
		if err := s.file(open); err != nil {
			return done, err
		}
	}
	if *folder && l.o.Sync != SyncNever {
		if err := l.fs.SyncDir(opSyncFolder, segmentsFolder(l.o.Path)); err != nil {
			return done, fmt.Errorf("sync folder of segments: %w", err)
		}
	}
	*folder = false
	return done, nil
}

func (s *syncer) file(seg *openSegment) error {
	l := s.log
	if l.o.Sync == SyncNever {
		return nil
	}
	start := time.Now()
	err := seg.file.Sync(opSyncSegment)
	l.metrics.fsync.Observe(time.Since(start).Seconds())
	if err != nil {
		seg.failed = true
		return fmt.Errorf("sync segment %s: %w", l.segmentPath(seg.header.first), err)
	}
	return nil
}
