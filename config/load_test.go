package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testEnv is the environment of every file in testdata.
func testEnv(name string) (string, bool) {
	v, set := map[string]string{
		"PGHOST": "db.example.com", "PGPORT": "6432", "PGUSER": "mon", "PGPASSWORD": "s3cr$t", "TENANT": "dba",
		"REGION": "eu1", "EMPTY": "",
	}[name]
	return v, set
}

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read golden file: %v; make it with go test ./config -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// TestBad holds every message that an operator can get: each file breaks one
// rule, and its .err file has the whole answer.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yml"), func(t *testing.T) {
			c, err := Load(path, Options{Getenv: testEnv})
			if err == nil {
				t.Fatalf("loaded, want an error")
			}
			if c != nil {
				t.Errorf("a configuration came with the error")
			}
			golden(t, strings.TrimSuffix(path, ".yml")+".err", err.Error()+"\n")
		})
	}
}
