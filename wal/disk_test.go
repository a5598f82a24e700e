package wal

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// disk is a file system in memory that may lose what has not been synced: at
// a power cut, and, as Linux does, when a sync has failed. Names survive a cut
// in the order they were made in, as with a journal. Operations fail by name.
type disk struct {
	mu    sync.Mutex
	rng   *rand.Rand
	files map[string]*diskFile
	safe  map[string]*diskFile // names that are synced
	names []nameChange         // since then
	fault func(op, path string) error
	calls map[string]int
	bytes map[string]int // read, by operation
	free  int64
	size  int64
	now   time.Time
}

// nameChange makes, removes (nil) or replaces a name.
type nameChange struct {
	path string
	file *diskFile
}

type diskFile struct {
	content []byte
	synced  []byte
	changes []diskChange // since the last sync
	written time.Time
}

// diskChange is a write, or with nil bytes a truncation.
type diskChange struct {
	at    int64
	bytes []byte
}

func newDisk(seed uint64) *disk {
	return &disk{
		rng:   rand.New(rand.NewPCG(seed, 1)),
		files: map[string]*diskFile{}, safe: map[string]*diskFile{},
		calls: map[string]int{}, bytes: map[string]int{},
		free: 1 << 40, size: 1 << 40, now: testStart,
	}
}

// copy returns a disk with the same files, all synced, that goes its own way.
func (d *disk) copy() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newDisk(1)
	for path, f := range d.files {
		same := &diskFile{content: slices.Clone(f.content), synced: slices.Clone(f.content), written: f.written}
		c.files[path], c.safe[path] = same, same
	}
	return c
}

func (c diskChange) apply(b []byte) []byte {
	if c.bytes == nil {
		if int(c.at) <= len(b) {
			return b[:c.at]
		}
		return append(b, make([]byte, int(c.at)-len(b))...)
	}
	if need := int(c.at) + len(c.bytes); need > len(b) {
		b = append(b, make([]byte, need-len(b))...)
	}
	copy(b[c.at:], c.bytes)
	return b
}

// lose applies what happens to get to the disk of what was not synced: of each
// change all, nothing, zeros, or its beginning.
func (f *diskFile) lose(rng *rand.Rand) {
	for _, c := range f.changes {
		switch {
		case rng.IntN(3) == 0:
			continue
		case c.bytes != nil && rng.IntN(3) == 0:
			c.bytes = c.bytes[:rng.IntN(len(c.bytes)+1)]
		case c.bytes != nil && rng.IntN(4) == 0:
			c.bytes = make([]byte, len(c.bytes))
		}
		f.synced = c.apply(f.synced)
	}
	f.changes = nil
}

// cut is a power loss: it leaves what was synced and some of the rest.
func (d *disk) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.applyNames(d.names[:d.rng.IntN(len(d.names)+1)])
	d.names = nil
	d.files = map[string]*diskFile{}
	for _, path := range slices.Sorted(maps.Keys(d.safe)) {
		f := d.safe[path]
		f.lose(d.rng)
		survivor := &diskFile{content: slices.Clone(f.synced), synced: f.synced, written: f.written}
		d.files[path], d.safe[path] = survivor, survivor
	}
}

// cutPower ends a log as a power cut does, and leaves the disk to the next.
func cutPower(t testing.TB, l *Log, d *disk) {
	t.Helper()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	if err := l.lock.Close(); err != nil {
		t.Fatal(err)
	}
	d.cut()
}

func (d *disk) applyNames(changes []nameChange) {
	for _, c := range changes {
		if c.file == nil {
			delete(d.safe, c.path)
		} else {
			d.safe[c.path] = c.file
		}
	}
}

// call counts an operation and returns its error.
func (d *disk) call(op, path string) error {
	d.calls[op]++
	if d.fault != nil {
		if err := d.fault(op, path); err != nil {
			return &fs.PathError{Op: op, Path: path, Err: err}
		}
	}
	return nil
}

// failing makes operations fail with these errors until it is called with nil.
func (d *disk) failing(faults map[string]error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = func(op, _ string) error { return faults[op] }
}

func (d *disk) MkdirAll(op, path string, _ fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.call(op, path)
}

func (d *disk) OpenFile(op, path string, flag int, _ fs.FileMode) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call(op, path); err != nil {
		return nil, err
	}
	f := d.files[path]
	switch {
	case f == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
	case f != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: op, Path: path, Err: fs.ErrExist}
	case f == nil:
		f = &diskFile{written: d.now}
		d.name(path, f)
	case flag&os.O_TRUNC != 0:
		f.change(diskChange{at: 0})
	}
	return &openDiskFile{d, f, path}, nil
}

func (d *disk) name(path string, f *diskFile) {
	if f == nil {
		delete(d.files, path)
	} else {
		d.files[path] = f
	}
	d.names = append(d.names, nameChange{path, f})
}

func (d *disk) ReadDir(op, path string) (entries []fs.DirEntry, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call(op, path); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for name, f := range d.files {
		rest, under := strings.CutPrefix(name, path+string(filepath.Separator))
		if !under {
			continue
		}
		first, _, deeper := strings.Cut(rest, string(filepath.Separator))
		if !seen[first] {
			seen[first] = true
			entries = append(entries, fs.FileInfoToDirEntry(diskInfo{first, deeper, int64(len(f.content)), f.written}))
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (d *disk) Remove(op, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call(op, path); err != nil {
		return err
	}
	if d.files[path] == nil {
		return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
	}
	d.name(path, nil)
	return nil
}

func (d *disk) Rename(op, from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call(op, from); err != nil {
		return err
	}
	f := d.files[from]
	if f == nil {
		return &fs.PathError{Op: op, Path: from, Err: fs.ErrNotExist}
	}
	// One change: there is no cut in the middle of a rename.
	delete(d.files, from)
	d.files[to] = f
	d.names = append(d.names, nameChange{to, f}, nameChange{from, nil})
	return nil
}

func (d *disk) SyncDir(op, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.call(op, path); err != nil {
		return err
	}
	d.applyNames(d.names) // a journal has one order for all folders
	d.names = nil
	return nil
}

func (d *disk) Free(op, path string) (free, size int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, d.size, d.call(op, path)
}

type openDiskFile struct {
	disk *disk
	file *diskFile
	path string
}

func (f *diskFile) change(c diskChange) {
	f.content = c.apply(f.content)
	f.changes = append(f.changes, c)
}

func (o *openDiskFile) ReadAt(op string, p []byte, off int64) (n int, err error) {
	o.disk.mu.Lock()
	defer o.disk.mu.Unlock()
	if err := o.disk.call(op, o.path); err != nil {
		return 0, err
	}
	if off < int64(len(o.file.content)) {
		n = copy(p, o.file.content[off:])
	}
	o.disk.bytes[op] += n
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes nothing or a part when it fails.
func (o *openDiskFile) WriteAt(op string, p []byte, off int64) (int, error) {
	o.disk.mu.Lock()
	defer o.disk.mu.Unlock()
	o.file.written = o.disk.now
	if err := o.disk.call(op, o.path); err != nil {
		n := 0
		if o.disk.rng.IntN(2) == 0 {
			n = o.disk.rng.IntN(len(p))
			o.file.change(diskChange{off, slices.Clone(p[:n])})
		}
		return n, err
	}
	o.file.change(diskChange{off, slices.Clone(p)})
	return len(p), nil
}

// Sync that fails has written some of it and will not write the rest, though
// it is still there to be read.
func (o *openDiskFile) Sync(op string) error {
	o.disk.mu.Lock()
	defer o.disk.mu.Unlock()
	if err := o.disk.call(op, o.path); err != nil {
		o.file.lose(o.disk.rng)
		return err
	}
	for _, c := range o.file.changes {
		o.file.synced = c.apply(o.file.synced)
	}
	o.file.changes = nil
	return nil
}

func (o *openDiskFile) Truncate(op string, size int64) error {
	o.disk.mu.Lock()
	defer o.disk.mu.Unlock()
	if err := o.disk.call(op, o.path); err != nil {
		return err
	}
	o.file.change(diskChange{at: size})
	return nil
}

func (o *openDiskFile) Close() error { return nil }

type diskInfo struct {
	name    string
	folder  bool
	size    int64
	written time.Time
}

func (i diskInfo) Name() string       { return i.name }
func (i diskInfo) Size() int64        { return i.size }
func (i diskInfo) ModTime() time.Time { return i.written }
func (i diskInfo) IsDir() bool        { return i.folder }
func (i diskInfo) Sys() any           { return nil }
func (i diskInfo) Mode() fs.FileMode {
	if i.folder {
		return fs.ModeDir | 0o750
	}
	return 0o640
}
