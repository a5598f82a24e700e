package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// CursorName is how Cursors lists the cursor of that name: the name itself, or
// its short form where it is too long for a file.
func CursorName(name string) (string, error) {
	path, err := cursorPath("", name)
	if err != nil {
		return "", err
	}
	return listedName(filepath.Base(path)), nil
}

// listedName is the name of a cursor by that of its file.
func listedName(file string) string {
	escaped := strings.TrimSuffix(file, cursorSuffix)
	if name, err := url.PathUnescape(escaped); err == nil {
		return name
	}
	return escaped // a short form that ends within an escape
}

// Cursors returns the names of the cursors on disk, open or not, in order. A
// cursor that is not open holds nothing back.
func (l *Log) Cursors() ([]string, error) {
	names, err := l.cursorFiles()
	if err != nil {
		return nil, err
	}
	for i, file := range names {
		names[i] = listedName(file)
	}
	slices.Sort(names)
	return names, nil
}

func (l *Log) cursorFiles() (files []string, err error) {
	entries, err := l.fs.ReadDir(opList, cursorsFolder(l.o.Path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list cursors: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), cursorSuffix) {
			files = append(files, e.Name())
		}
	}
	return files, nil
}

// AdoptCursor gives the cursor of the name from, as Cursors lists it or whole,
// to the name to: its position and all that is saved with it. Neither may be
// open, and there must be none of the name to; the error is fs.ErrNotExist
// where from has none, and fs.ErrExist where to has one. After any error the
// cursor has one of the two names; that it has the new one survives power loss
// when AdoptCursor has returned without.
func (l *Log) AdoptCursor(from, to string) error {
	if err := l.adoptCursor(from, to); err != nil {
		return fmt.Errorf("hand the cursor of %q over to %q: %w", from, to, err)
	}
	return nil
}

func (l *Log) adoptCursor(from, to string) error {
	for _, c := range l.cursors.list() {
		if c.name == from || c.name == to {
			return fmt.Errorf("cursor %q is open", c.name)
		}
	}
	before, err := cursorPath(l.o.Path, from)
	if err != nil {
		return err
	}
	after, err := cursorPath(l.o.Path, to)
	if err != nil {
		return err
	}
	files, err := l.cursorFiles()
	switch {
	case err != nil:
		return err
	case slices.Contains(files, filepath.Base(after)):
		return fs.ErrExist
	case !slices.Contains(files, filepath.Base(before)):
		return fs.ErrNotExist
	}
	if err := l.fs.Rename(opAdoptCursor, before, after); err != nil {
		return err
	}
	return l.syncCursorsFolder()
}
