package config

import (
	"os"
	"path/filepath"
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
