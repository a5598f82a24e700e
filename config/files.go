package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files are those a configuration is read from. Whoever watches them sees each
// change there can be.
type Files struct {
	// Patterns are the configuration itself and collector_files, as
	// [filepath.Glob] takes them.
	Patterns []string
	// Loaded is what Content would have returned when Load read them.
	Loaded [sha256.Size]byte
}

// Content returns a hash of the names and the content of the files as they are,
// or of why one of them cannot be read. On a file system that hangs it does so as
// well.
func (f Files) Content() [sha256.Size]byte {
	return f.content(func(name string) []byte {
		data, err := readRegular(name)
		if err != nil {
			return []byte(err.Error())
		}
		return contentHash(data)
	})
}

func (f Files) content(of func(name string) []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, pattern := range f.Patterns {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			h.Write([]byte(name))
			h.Write(of(name))
		}
	}
	h.Sum(sum[:0])
	return sum
}

func contentHash(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}

// readCollectorFiles reads the files that collector_files names, each once
// however many patterns match it.
func (d *document) readCollectorFiles() {
	seen := map[string]bool{}
	for _, p := range d.patterns {
		pattern := p.key
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(d.in.dir, pattern)
		}
		d.config.Files.Patterns = append(d.config.Files.Patterns, pattern)
		paths, err := filepath.Glob(pattern)
		if err != nil {
			p.value.fail(fmt.Sprintf("%q is not a pattern of file names: a bracket is not closed", p.key), "close it, or escape it with a backslash")
			d.partial = true
			continue
		}
		if len(paths) == 0 {
			p.value.fail(fmt.Sprintf("no file matches %s", pattern), "check the name; it starts from the folder of this file")
			d.partial = true
		}
		for _, path := range paths {
			if !seen[path] {
				seen[path] = true
				d.readCollectorFile(path, p.value)
			}
		}
	}
}

// readCollectorFile reads one file, which the pattern at from names.
func (d *document) readCollectorFile(path string, from node) {
	data, err := readRegular(path)
	if err != nil {
		from.fail(fmt.Sprintf("%s cannot be read: %s", path, cause(err)), "check the name and who may read the file")
		d.partial = true
		return
	}
	d.in.load.read[filepath.Clean(path)] = contentHash(data)
	f := &file{name: path, dir: filepath.Dir(path), load: d.in.load}
	root, ok := f.parse(data)
	if !ok {
		d.partial = true
		return
	}
	d.collectors = append(d.collectors, decodeCollector(root))
}

// fileName sets *into to the name of a file that somebody reads later, and
// reports one that cannot be read.
func (n node) fileName(into *string) {
	var s string
	if n.expand(&s); s == "" {
		return
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(n.in.dir, s)
	}
	data, err := readRegular(s)
	switch {
	case err != nil:
		n.fail(fmt.Sprintf("%s cannot be read: %s", s, cause(err)), "check the name, which starts from the folder of this file, and who may read it")
	case strings.TrimSpace(string(data)) == "":
		n.fail(s+" is empty", "write into it what it is to hold")
	}
	*into = s
}

// maxFile is the size of the largest file that is read, in bytes: a ConfigMap
// has at most one MiB.
const maxFile = 16 << 20

var (
	errNotRegular = errors.New("it is not a regular file")
	errTooLarge   = fmt.Errorf("it has more than %d MiB", maxFile>>20)
)

// readRegular reads a file and refuses what might never end or never begin.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errTooLarge
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// cause returns an error of the file system without the path, which the
// message around it has.
func cause(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
