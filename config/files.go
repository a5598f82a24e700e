package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// readCollectorFiles reads the files that collector_files names, each once
// however many patterns match it.
func (d *document) readCollectorFiles() {
	seen := map[string]bool{}
	for _, p := range d.patterns {
		pattern := p.key
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(d.in.dir, pattern)
		}
		d.config.Files = append(d.config.Files, pattern)
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

var errNotRegular = errors.New("it is not a regular file")

// readRegular reads a file and refuses what might never end or never begin.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	return os.ReadFile(path)
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
