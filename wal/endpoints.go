package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	endpointsFile = "endpoints"
	// maxEndpoints bounds the file of the endpoints' names, in bytes.
	maxEndpoints = 64 << 10
)

func endpointsPath(path string) string { return filepath.Join(cursorsFolder(path), endpointsFile) }

// Endpoints returns the names that were saved last, in order: those of the
// endpoints that the process before this one had, until SaveEndpoints is
// called. The error is fs.ErrNotExist where none were saved, and another one
// where the file cannot be read or is damaged. Nobody may guess them then.
func (l *Log) Endpoints() ([]string, error) { return readEndpoints(l.fs, l.o.Path) }

// SaveEndpoints saves the names of the endpoints there are. They survive power
// loss when it returns, and are replaced whole or not at all. After an error
// those of an earlier start are gone as well: taken for the last ones, they
// would hand over a cursor that nobody has had for long.
func (l *Log) SaveEndpoints(names []string) error {
	b := encodeEndpoints(names)
	if len(b) > maxEndpoints {
		return fmt.Errorf("save names of endpoints: %d bytes are over the limit of %d", len(b), maxEndpoints)
	}
	if before, err := readEndpointsFile(l.fs, l.o.Path); err == nil && bytes.Equal(before, b) {
		return nil
	}
	err := l.replaceEndpoints(b)
	if err == nil {
		return nil
	}
	errs := []error{fmt.Errorf("save names of endpoints: %w", err)}
	path := endpointsPath(l.o.Path)
	for _, path := range []string{path, path + newSuffix} {
		if err := l.fs.Remove(opForgetEndpoints, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("forget names of endpoints: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (l *Log) replaceEndpoints(b []byte) error {
	path := endpointsPath(l.o.Path)
	f, err := l.fs.OpenFile(opSaveEndpoints, path+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(opSaveEndpoints, b, 0)
	if err == nil && l.o.Sync != SyncNever {
		err = f.Sync(opSyncEndpoints)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := l.fs.Rename(opPlaceEndpoints, path+newSuffix, path); err != nil {
		return err
	}
	return l.syncCursorsFolder()
}

// syncCursorsFolder makes the names in the folder of cursors safe.
func (l *Log) syncCursorsFolder() error {
	if l.o.Sync == SyncNever {
		return nil
	}
	return l.fs.SyncDir(opSyncFolder, cursorsFolder(l.o.Path))
}

func readEndpoints(fs FileSystem, path string) ([]string, error) {
	b, err := readEndpointsFile(fs, path)
	if err != nil {
		return nil, fmt.Errorf("read names of endpoints: %w", err)
	}
	names, err := decodeEndpoints(b)
	if err != nil {
		return nil, fmt.Errorf("read names of endpoints in %s: %w", endpointsPath(path), err)
	}
	return names, nil
}

func readEndpointsFile(fs FileSystem, path string) ([]byte, error) {
	f, err := fs.OpenFile(opReadEndpoints, endpointsPath(path), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b := make([]byte, maxEndpoints)
	n, err := f.ReadAt(opReadEndpoints, b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], errors.Join(err, f.Close())
}

// encodeEndpoints is a line of the CRC32C of all that follows, and a line per
// name, escaped as in a URL, in order.
func encodeEndpoints(names []string) []byte {
	var lines strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		lines.WriteString(url.PathEscape(name) + "\n")
	}
	return fmt.Appendf(nil, "%08x\n%s", crc32.Checksum([]byte(lines.String()), castagnoli), lines.String())
}

func decodeEndpoints(b []byte) ([]string, error) {
	sum, lines, _ := strings.Cut(string(b), "\n")
	if sum != fmt.Sprintf("%08x", crc32.Checksum([]byte(lines), castagnoli)) {
		return nil, errors.New("checksum of the names does not match")
	}
	names := []string{}
	for line := range strings.Lines(lines) {
		name, err := url.PathUnescape(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("decode name: %w", err)
		}
		names = append(names, name)
	}
	return names, nil
}
