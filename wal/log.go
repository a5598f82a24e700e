package wal

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options shape a log. The zero value of each field means its default.
type Options struct {
	Path         string        // the folder; made if missing
	MaxBytes     int64         // of everything under Path; over it, the oldest segments go; 1 GiB
	MaxAge       time.Duration // since the append; segments older than that go; 48h
	MinFree      int64         // bytes of the volume left to others, at most a tenth of it; 256 MiB; negative: none
	Sync         Sync
	SyncInterval time.Duration         // 1s
	SegmentBytes int64                 // 8 MiB, and at most an eighth of MaxBytes
	SegmentAge   time.Duration         // 10m
	Logger       *slog.Logger          // none: nothing is logged
	Registerer   prometheus.Registerer // nil: no self metrics
	FS           FileSystem            // nil: the operating system's

	version uint32 // of the format; tests have one more
}

func (o Options) withDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.MaxAge == 0 {
		o.MaxAge = 48 * time.Hour
	}
	if o.MinFree == 0 {
		o.MinFree = 256 << 20
	}
	if o.SyncInterval == 0 {
		o.SyncInterval = time.Second
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 8 << 20
	}
	o.SegmentBytes = min(o.SegmentBytes, o.MaxBytes/8)
	if o.SegmentAge == 0 {
		o.SegmentAge = 10 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.version == 0 {
		o.version = segmentVersion
	}
	if o.FS == nil {
		o.FS = osFileSystem{}
	}
	return o
}

// Log is the write-ahead log. All its methods may be called by anyone at any
// time until Close.
//
// Locks are taken in this order: Cursor.mu, syncer.mu, Log.mu, cursors.mu,
// published.mu. The first three are held over the writes and syncs they are
// there to order; Stats, Changed and readers need the last one only.
type Log struct {
	o          Options
	fs         FileSystem
	log        *slog.Logger
	lock       *os.File
	metrics    *metrics
	published  *published
	cursors    *cursors
	syncer     *syncer
	quarantine *quarantine
	turns      turns

	mu     sync.Mutex // the writer's: all below
	closed bool
	id     logID
	end    Position // after the newest frame
	now    int64    // the largest time of append since the clock was set back, Unix milliseconds
	floor  int64    // largest time of a sample in the log, own-time frames left out
	round  uint64
	series seriesTable
	states states
	enc    *encoder

	segments      []segment // oldest first, the open one last
	readable      []uint64  // those that are published
	sizes         []int64   // of those, but for the newest
	bounds        []uint64  // and of those, the ones with a whole header
	open          *openSegment
	rolled        []*openSegment // complete, waiting for their last sync
	folderChanged bool
	bytes         int64 // of segments and cursors
	others        int64 // of everything else under Path, as last measured
	unsynced      int   // bytes of the copies of what is not synced
	waiting       waiting
	taken         Position // how far a segment set aside has been taken up

	opened, takenUp  Totals
	refused, evicted Totals
	lost             Lost
	evictedFor       string // the bound that was last too tight
	over, blind      bool   // a segment could not be evicted, the free space not be asked for
	unlisted         bool   // a folder under Path could not be measured
	writeErrors      uint64
}

// Open opens the log in o.Path, making it if there is none, and recovers it as
// the package documentation says. Until ctx ends it waits for another process
// that has the log open, and for a disk that has no room for the folder. Damage
// is repaired or stepped over and logged, never an error: errors are those of
// the folder, such as a missing permission.
func Open(ctx context.Context, o Options, now time.Time) (_ *Log, err error) {
	o = o.withDefaults()
	l := &Log{
		o: o, fs: o.FS, log: o.Logger,
		published: newPublished(),
		cursors:   &cursors{fs: o.FS, path: o.Path, open: make(map[string]*Cursor)},
		now:       now.UnixMilli(),
		enc:       newEncoder(),
	}
	l.syncer = &syncer{log: l}
	l.quarantine = newQuarantine(o)
	l.turns.begun = time.Now()
	if err := l.takeFolder(ctx); err != nil {
		return nil, err
	}
	for _, folder := range []string{segmentsFolder(o.Path), cursorsFolder(o.Path)} {
		err := l.fs.MkdirAll(opMakeFolder, folder, 0o750)
		if isFull(err) {
			l.log.Warn("folder of the log is made with the first file in it", "err", err)
		} else if err != nil {
			return nil, errors.Join(makeFolderError(err), l.release())
		}
	}
	l.syncFolders()
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.release())
	}
	if l.metrics, err = newMetrics(l, o.Registerer); err != nil {
		return nil, errors.Join(err, l.release())
	}
	l.opened = l.end.Totals
	l.publish()
	// What a killed process left unsynced is made safe before it is read.
	if err := l.syncer.to(maxSeq); err != nil {
		l.log.Error("log cannot be synced; what is appended is kept and shipped when it can", "path", o.Path, "err", err)
	}
	l.bound(now.UnixMilli())
	return l, nil
}

// syncFolders makes the names of the log's folders safe. One that cannot be
// opened, which a parent need not be, was there before us.
func (l *Log) syncFolders() {
	if l.o.Sync == SyncNever {
		return
	}
	for _, folder := range []string{l.o.Path, filepath.Dir(l.o.Path)} {
		if err := l.fs.SyncDir(opSyncFolder, folder); err != nil {
			l.log.Warn("folder cannot be synced; a log made just now may be lost with the power", "folder", folder, "err", err)
		}
	}
}

// makeFile opens a file to be made, and makes its folder where the disk was too
// full for it at the start.
func (l *Log) makeFile(op, path string, flag int) (File, error) {
	f, err := l.fs.OpenFile(op, path, flag, 0o640)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := l.fs.MkdirAll(opMakeFolder, filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	l.syncFolders()
	return l.fs.OpenFile(op, path, flag, 0o640)
}

// Close writes what waits in memory or counts it as lost, syncs, closes the files, those of open cursors too, and unlocks the
// folder. The open segment stays as it is and is continued by the next Open.
// The caller has stopped Run and whoever appends.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.writeWaiting(l.now)
	l.loseWaiting()
	l.mu.Unlock()
	err := l.syncer.to(maxSeq)
	for _, c := range l.cursors.list() {
		err = errors.Join(err, c.noteEnd(), c.Close())
	}
	l.syncer.mu.Lock()
	defer l.syncer.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.metrics.unregister()
	return errors.Join(err, l.release())
}

// release closes what the log has open.
func (l *Log) release() error {
	var errs []error
	if l.open != nil {
		errs = append(errs, l.open.file.Close())
		l.open = nil
	}
	for _, s := range l.rolled {
		errs = append(errs, s.file.Close())
	}
	l.rolled = nil
	errs = append(errs, l.enc.zstd.Close(), l.lock.Close())
	return errors.Join(errs...)
}
