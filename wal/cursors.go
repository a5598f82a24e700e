package wal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

const cursorSuffix = ".cursor"

func cursorsFolder(path string) string { return filepath.Join(path, "cursors") }

// cursorPath names the file of a cursor: the endpoint's name where a file can
// be called so, otherwise its beginning and its hash.
func cursorPath(path, name string) (string, error) {
	if name == "" {
		return "", errors.New("cursor needs a name")
	}
	file := url.PathEscape(name)
	if len(file) > 128 {
		sum := sha256.Sum256([]byte(name))
		file = file[:64] + "~" + hex.EncodeToString(sum[:16])
	}
	return filepath.Join(cursorsFolder(path), file+cursorSuffix), nil
}

// cursors are those that are open.
type cursors struct {
	fs   FileSystem
	path string // the log's

	mu            sync.Mutex
	open          map[string]*Cursor
	holds         int // see Log.Hold
	folderChanged bool
}

// Hold keeps what the open cursors have passed until release is called, once.
// It is for a reload that hands a cursor over: between its being closed and
// its being opened under another name nothing says what it needs. The log's
// bounds are kept all the while.
func (l *Log) Hold() (release func()) {
	l.cursors.hold(1)
	return func() { l.cursors.hold(-1) }
}

func (cs *cursors) hold(n int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.holds += n
}

func (cs *cursors) add(c *Cursor) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.open[c.name] != nil {
		return fmt.Errorf("cursor %q is open already", c.name)
	}
	cs.open[c.name] = c
	return nil
}

func (cs *cursors) remove(c *Cursor) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.open[c.name] == c {
		delete(cs.open, c.name)
	}
}

func (cs *cursors) made() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.folderChanged = true
}

// list is in order of names, so that a run of a test can be repeated.
func (cs *cursors) list() []*Cursor {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	all := make([]*Cursor, 0, len(cs.open))
	for _, c := range cs.open {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *Cursor) int { return strings.Compare(a.name, b.name) })
	return all
}

// passed is the sequence number that all open cursors have safely passed;
// false if none is open, or if what they have passed is held.
func (cs *cursors) passed() (seq uint64, ok bool) {
	if cs.held() {
		return 0, false
	}
	for _, c := range cs.list() {
		if safe := c.safe.Load(); !ok || safe < seq {
			seq, ok = safe, true
		}
	}
	return seq, ok
}

func (cs *cursors) held() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.holds > 0
}

// sync makes the cursors' last saves and the names of their files safe.
func (cs *cursors) sync(durable bool) error {
	var errs []error
	for _, c := range cs.list() {
		errs = append(errs, c.sync(durable))
	}
	cs.mu.Lock()
	changed := cs.folderChanged
	cs.folderChanged = false
	cs.mu.Unlock()
	if changed && durable {
		if err := cs.fs.SyncDir(opSyncFolder, cursorsFolder(cs.path)); err != nil {
			cs.made()
			errs = append(errs, fmt.Errorf("sync folder of cursors: %w", err))
		}
	}
	return errors.Join(errs...)
}
