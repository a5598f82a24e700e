package remotewrite

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sql2metrics/wal"
)

const (
	// maxLetterSegment bounds a segment, in bytes, unless one letter alone is
	// larger; under a small bound it is an eighth of that.
	maxLetterSegment = 1 << 20
	// lookEvery is how often the folder is asked whether somebody else has
	// removed letters.
	lookEvery = 10 * time.Second
)

// DeadLetterOptions shape a [DeadLetter].
type DeadLetterOptions struct {
	Path       string         // the folder; made with the first letter
	MaxBytes   int64          // of the letters of all endpoints
	NoSync     bool           // leave it to the operating system when letters survive power loss
	FS         wal.FileSystem // nil: the operating system's
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

// DeadLetter keeps the requests that receivers refuse, in segments, in a
// folder per endpoint. Over its bound the oldest segment goes. All endpoints
// share one. Others list and remove letters beside it: [Letters],
// [RemoveLetters], [Resender].
//
// It never fails: what cannot be kept is counted, and logged when that begins
// and when it ends. What the folder holds is listed once, and again after
// somebody else has removed something.
type DeadLetter struct {
	path                   string
	maxBytes, segmentBytes int64
	noSync                 bool
	fs                     wal.FileSystem
	logger                 *slog.Logger

	letters, bytes           prometheus.Gauge
	written, evicted, failed prometheus.Counter

	unsynced atomic.Int64 // letters; whoever has none need not wait for mu

	// mu is held while letters are written: only they are waited for.
	mu        sync.Mutex
	segments  []*letterSegment // of all endpoints, oldest first
	last      map[string]*lastWindow
	next      uint64 // number of the segment to come
	listed    bool
	changed   time.Time // of the folder, when it was listed
	looked    time.Time
	unwritten bool // the last letter could not be written
	unsafe    bool // the last sync failed
}

// letterSegment is a segment and what is known of it.
type letterSegment struct {
	letterFile      // its size ends with the last whole letter
	torn       bool // the file goes on behind that
	letters    int  // in it, those that are removed left out
	unsynced   int  // letters
	named      bool // its name survives power loss
}

// lastWindow is the window that the last letters of an endpoint are of. A
// process that dies after it has written letters, and before what it knows is
// saved, is followed by one that comes to write the same ones again.
type lastWindow struct {
	seq    uint64
	hashes map[uint32]bool
}

// OpenDeadLetter lists the letters there are. It fails over metrics only: a
// folder that cannot be listed is tried again with the next letter.
func OpenDeadLetter(o DeadLetterOptions) (*DeadLetter, error) {
	const prefix = "sql2metrics_dead_letter_"
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	d := &DeadLetter{
		path: o.Path, maxBytes: o.MaxBytes, segmentBytes: min(maxLetterSegment, o.MaxBytes/8), noSync: o.NoSync, fs: o.FS, logger: o.Logger,
		letters: gauge("requests", "Refused requests in the dead letter."),
		bytes:   gauge("bytes", "Bytes of the dead letter on disk."),
		written: counter("requests_written_total", "Refused requests that were written to the dead letter."),
		evicted: counter("requests_evicted_total", "Requests removed from the dead letter to keep storage.dead_letter_max_bytes."),
		failed:  counter("write_failures_total", "Refused requests that could not be written to the dead letter. Their samples are counted as any other."),
	}
	if d.fs == nil {
		d.fs = wal.OperatingSystem()
	}
	if d.logger == nil {
		d.logger = slog.New(slog.DiscardHandler)
	}
	d.noteWrite(d.list())
	if o.Registerer == nil {
		return d, nil
	}
	for _, c := range []prometheus.Collector{d.letters, d.bytes, d.written, d.evicted, d.failed} {
		if err := o.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the dead letter: %w", err)
		}
	}
	return d, nil
}

// keep writes a letter. It survives the process when keep returns, and power
// loss after sync. One that the process before this one has written is there
// already.
func (d *DeadLetter) keep(l *Letter, body []byte) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	frame, hash, err := encodeLetter(l, body)
	folder := endpointFolder(l.Endpoint)
	if err == nil && !d.listed {
		err = d.list()
	}
	if w := d.last[folder]; err == nil && w != nil && w.seq == l.Window && w.hashes[hash] {
		return
	}
	if err == nil {
		err = d.write(folder, frame)
	}
	d.noteWrite(err)
	if err != nil {
		d.failed.Inc()
		return
	}
	d.remember(folder, l.Window, hash)
	d.written.Inc()
	d.publish()
}

// remember notes a letter of an endpoint's last window.
func (d *DeadLetter) remember(folder string, window uint64, hash uint32) {
	w := d.last[folder]
	if w == nil || w.seq != window {
		w = &lastWindow{seq: window, hashes: map[uint32]bool{}}
		d.last[folder] = w
	}
	w.hashes[hash] = true
}

func (d *DeadLetter) write(folder string, frame []byte) error {
	size := int64(len(frame))
	if least := onDisk(int64(len(letterMagic)) + size); least > d.maxBytes {
		return fmt.Errorf("a letter of %d bytes is over storage.dead_letter_max_bytes, %d", least, d.maxBytes)
	}
	for {
		s := d.open(folder, size)
		grown := onDisk(int64(len(letterMagic)) + size)
		if s != nil {
			grown = onDisk(s.size+size) - onDisk(s.size)
		}
		switch {
		case d.size()+grown > d.maxBytes:
			if err := d.evict(); err != nil {
				return err
			}
		case s == nil:
			return d.create(folder, frame)
		default:
			err := d.extend(s, frame)
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			d.forget(s) // somebody has deleted it
		}
	}
}

// open returns the segment of an endpoint that so many bytes fit in; nil if
// there is none.
func (d *DeadLetter) open(folder string, bytes int64) *letterSegment {
	for _, s := range slices.Backward(d.segments) {
		if s.folder == folder {
			if s.size+bytes > d.segmentBytes {
				return nil
			}
			return s
		}
	}
	return nil
}

// size is what all segments take of the disk.
func (d *DeadLetter) size() (bytes int64) {
	for _, s := range d.segments {
		bytes += onDisk(s.size)
	}
	return bytes
}

// evict removes the oldest segment.
func (d *DeadLetter) evict() error {
	oldest := d.segments[0]
	if err := d.fs.Remove(opRemoveLetters, oldest.path(d.path)); ignoreMissing(err) != nil {
		return fmt.Errorf("remove oldest dead letters: %w", err)
	}
	d.evicted.Add(float64(oldest.letters))
	d.forget(oldest)
	return nil
}

// forget takes a segment that is gone off the list.
func (d *DeadLetter) forget(s *letterSegment) {
	d.segments = slices.DeleteFunc(d.segments, func(other *letterSegment) bool { return other == s })
	d.publish()
}

// create begins a segment with a letter.
func (d *DeadLetter) create(folder string, frame []byte) error {
	s := &letterSegment{letterFile: letterFile{folder: folder, number: d.next}}
	if err := d.fs.MkdirAll(opLetterFolder, filepath.Join(d.path, folder), 0o750); err != nil {
		return fmt.Errorf("make folder of dead letters: %w", err)
	}
	d.next++
	if err := d.append(s, os.O_CREATE|os.O_EXCL, append([]byte(letterMagic), frame...)); err != nil {
		return errors.Join(err, ignoreMissing(d.fs.Remove(opRemoveLetters, s.path(d.path))))
	}
	d.segments = append(d.segments, s)
	return nil
}

// extend appends a letter to a segment.
func (d *DeadLetter) extend(s *letterSegment, frame []byte) error {
	if s.size == 0 {
		frame = append([]byte(letterMagic), frame...)
	}
	return d.append(s, 0, frame)
}

// append writes b behind the last whole letter of a segment.
func (d *DeadLetter) append(s *letterSegment, flag int, b []byte) (err error) {
	file, err := d.fs.OpenFile(opWriteLetter, s.path(d.path), os.O_RDWR|flag, 0o640)
	if err != nil {
		return fmt.Errorf("open dead letters: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if s.torn {
		if err := file.Truncate(opCutLetter, s.size); err != nil {
			return fmt.Errorf("cut torn dead letter: %w", err)
		}
		s.torn = false
	}
	if _, err := file.WriteAt(opWriteLetter, b, s.size); err != nil {
		s.torn = file.Truncate(opCutLetter, s.size) != nil
		return fmt.Errorf("write dead letter: %w", err)
	}
	s.size += int64(len(b))
	s.letters++
	if !d.noSync {
		s.unsynced++
	}
	return nil
}

// sync makes the letters of an endpoint survive power loss. It is called
// before what became of their samples is saved, and costs nothing without a
// letter.
func (d *DeadLetter) sync(endpoint string) {
	if d == nil || d.unsynced.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	folder := endpointFolder(endpoint)
	for _, s := range d.segments {
		if s.folder != folder || s.unsynced == 0 {
			continue
		}
		err := d.syncSegment(s)
		note(&d.unsafe, err, func() {
			d.logger.Error("refused requests cannot be synced to the dead letter; power loss may cost them", "path", d.path, "err", err)
		}, func() { d.logger.Info("refused requests are synced to the dead letter again") })
		if err != nil {
			d.failed.Add(float64(s.unsynced))
		}
		s.unsynced = 0
	}
	d.publish()
}

func (d *DeadLetter) syncSegment(s *letterSegment) error {
	file, err := d.fs.OpenFile(opSyncLetters, s.path(d.path), os.O_RDWR, 0)
	if err != nil {
		return ignoreMissing(err)
	}
	if err := errors.Join(file.Sync(opSyncLetters), file.Close()); err != nil || s.named {
		return err
	}
	for _, folder := range []string{filepath.Join(d.path, s.folder), d.path, filepath.Dir(d.path)} {
		if err := d.fs.SyncDir(opSyncLetters, folder); err != nil {
			return err
		}
	}
	s.named = true
	return nil
}

// publish brings the gauges up to date.
func (d *DeadLetter) publish() {
	letters, unsynced := 0, 0
	for _, s := range d.segments {
		letters += s.letters
		unsynced += s.unsynced
	}
	d.letters.Set(float64(letters))
	d.bytes.Set(float64(d.size()))
	d.unsynced.Store(int64(unsynced))
}

// noteWrite logs when letters begin and cease to be lost.
func (d *DeadLetter) noteWrite(err error) {
	note(&d.unwritten, err, func() {
		d.logger.Error("refused requests cannot be written to the dead letter; their samples are counted, and gone", "path", d.path, "err", err)
	}, func() { d.logger.Info("refused requests are written to the dead letter again") })
}

// note calls began or ended when err changes what bad says.
func note(bad *bool, err error, began, ended func()) {
	switch {
	case err != nil && !*bad:
		began()
	case err == nil && *bad:
		ended()
	}
	*bad = err != nil
}
