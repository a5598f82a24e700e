package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whoever watches a configuration sees changes of every file it is made of: its
// own name matches nothing but itself, the patterns also what is not there yet.
func TestFiles(t *testing.T) {
	odd := filepath.Join(t.TempDir(), `a[b]*?\`)
	if err := os.Mkdir(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	path, collectors := filepath.Join(odd, "sql2metrics.yml"), t.TempDir()
	for name, text := range map[string]string{
		path: "collector_files: [" + collectors + "/*.yml]\n",
		filepath.Join(collectors, "a.yml"): "collector_name: a\n" +
			"metrics: [{metric_name: m, type: gauge, help: h, values: [v], query: SELECT 1 AS v}]\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(collectors+"/*.yml", c.Files.Patterns[1]); d != "" || len(c.Files.Patterns) != 2 {
		t.Errorf("files are %q", c.Files.Patterns)
	}
	if found, err := filepath.Glob(c.Files.Patterns[0]); err != nil || len(found) != 1 || found[0] != path {
		t.Errorf("%s matches %q, %v", c.Files.Patterns[0], found, err)
	}
}

// What might never end or never begin may match collector_files: it is refused,
// and whoever watches the files comes to an end with it.
func TestFilesThatAreNotRegular(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		why  string
	}{
		"a pipe nobody writes to": {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "it is not a regular file"},
		"a device without end":    {func(path string) error { return os.Symlink("/dev/zero", path) }, "it is not a regular file"},
		"a folder":                {func(path string) error { return os.Mkdir(path, 0o700) }, "it is not a regular file"},
		"a hole of a TiB": {func(path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		}, "it has more than 16 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			odd := filepath.Join(folder, "odd.yml")
			if err := c.make(odd); err != nil {
				t.Fatal(err)
			}
			files := Files{Patterns: []string{filepath.Join(folder, "*.yml")}}
			before := files.Content()
			if files.Content() != before {
				t.Error("it is other than it was")
			}
			main := filepath.Join(t.TempDir(), "sql2metrics.yml")
			if err := os.WriteFile(main, []byte("collector_files: ['"+files.Patterns[0]+"']\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(main, Options{}); err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("Load returns %v", err)
			}
			if err := os.Remove(odd); err != nil {
				t.Fatal(err)
			}
			if files.Content() == before {
				t.Error("that it is gone is not seen")
			}
		})
	}
}
