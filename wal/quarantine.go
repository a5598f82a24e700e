package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	quarantineSuffix = ".damaged"
	// maxQuarantine bounds the bytes that are kept, in a small log at a 64th of it.
	maxQuarantine = 16 << 20
)

func quarantineFolder(path string) string { return filepath.Join(path, "quarantine") }

// quarantine keeps the bytes that readers could not read, for whoever wants to
// know what has happened to them. Its folder is made with the first of them.
type quarantine struct {
	fs   FileSystem
	path string
	log  *slog.Logger
	max  int64

	found atomic.Uint64 // bytes, since Open

	mu     sync.Mutex
	listed bool
	kept   []keptDamage // oldest first
	bytes  int64
}

type keptDamage struct {
	name string
	size int64
}

func newQuarantine(o Options) *quarantine {
	return &quarantine{fs: o.FS, path: quarantineFolder(o.Path), log: o.Logger, max: min(maxQuarantine, o.MaxBytes/64)}
}

// keep copies damaged bytes of a segment to a file of their own. Several
// endpoints come by the same ones, and each start does; they are kept once.
// Those that nobody misses are not.
func (q *quarantine) keep(f File, d Damage) {
	if d.Spare {
		return
	}
	if f == nil {
		q.log.Error("a segment cannot be opened; what is missing is counted", "segment", segmentPath(filepath.Dir(q.path), d.Segment))
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list()
	name := fmt.Sprintf("%020d-%012d%s", d.Segment, d.From, quarantineSuffix)
	if slices.ContainsFunc(q.kept, func(k keptDamage) bool { return k.name == name }) {
		return
	}
	size, err := q.copy(f, d, name)
	q.found.Add(uint64(size))
	q.kept = append(q.kept, keptDamage{name, size})
	q.bytes += size
	q.log.Error("damage in the log; what is missing is counted, and the bytes are kept",
		"segment", segmentPath(filepath.Dir(q.path), d.Segment), "from", d.From, "bytes", size, "kept", filepath.Join(q.path, name), "err", err)
	for q.bytes > q.max && len(q.kept) > 1 {
		oldest := q.kept[0]
		if err := q.fs.Remove(opQuarantine, filepath.Join(q.path, oldest.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			q.log.Warn("damaged bytes cannot be removed", "path", filepath.Join(q.path, oldest.name), "err", err)
			return
		}
		q.kept = q.kept[1:]
		q.bytes -= oldest.size
	}
}

// list finds what earlier processes have kept. Names begin with the segment's,
// so their order is that of the log.
func (q *quarantine) list() {
	if q.listed {
		return
	}
	q.listed = true
	entries, err := q.fs.ReadDir(opQuarantine, q.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.log.Warn("the folder of damaged bytes cannot be listed", "path", q.path, "err", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), quarantineSuffix) {
			q.kept = append(q.kept, keptDamage{e.Name(), sizeOf(e)})
			q.bytes += sizeOf(e)
		}
	}
}

// copy returns how many bytes it has copied: as many as there are, and at most
// as many as may be kept. Those that the disk does not give out are zeros.
func (q *quarantine) copy(f File, d Damage, name string) (size int64, err error) {
	if err := q.fs.MkdirAll(opQuarantine, q.path, 0o750); err != nil {
		return 0, err
	}
	out, err := q.fs.OpenFile(opQuarantine, filepath.Join(q.path, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	left := q.max
	if d.To != math.MaxInt64 {
		left = min(left, d.To-d.From)
	}
	in := frameScanner{file: f, blank: true}
	for size < left {
		b, err := in.bytes(d.From+size, int(min(left-size, readAhead)), d.From+left)
		if err != nil && !errors.Is(err, io.EOF) {
			return size, err
		}
		if len(b) == 0 {
			break
		}
		if _, err := out.WriteAt(opQuarantine, b, size); err != nil {
			return size, err
		}
		size += int64(len(b))
	}
	return size, nil
}
