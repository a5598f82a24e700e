package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
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

// TestErrorsComeSortedAndAtOnce: the mistakes of three files, however far apart
// the checks that find them.
func TestErrorsComeSortedAndAtOnce(t *testing.T) {
	_, err := Load("testdata/bad/several_files.yml", Options{Getenv: testEnv})
	var all Errors
	if !errors.As(err, &all) {
		t.Fatalf("got %v, want Errors", err)
	}
	type place struct {
		File string
		Line int
	}
	var got []place
	for _, e := range all {
		got = append(got, place{strings.TrimPrefix(e.File, "testdata/bad/"), e.Line})
	}
	want := []place{
		{"several/a.yml", 3},
		{"several/b.yml", 2},
		{"several/b.yml", 4},
		{"several_files.yml", 1},
		{"several_files.yml", 5},
		{"several_files.yml", 6},
		{"several_files.yml", 6},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("places differ (-want +got):\n%s\n%v", diff, err)
	}
}

// TestNoFile: a configuration that cannot be read has no line.
func TestNoFile(t *testing.T) {
	_, err := Load("testdata/nowhere.yml", Options{})
	want := Errors{{
		File: "testdata/nowhere.yml", Problem: "cannot be read: no such file or directory",
		Remedy: "check --config.file and who may read it",
	}}
	if diff := cmp.Diff(error(want), err); diff != "" {
		t.Errorf("error differs (-want +got):\n%s", diff)
	}
}

// lineBreak is what YAML ends lines with.
var lineBreak = regexp.MustCompile("[\n\r\u0085\u2028\u2029]")

// FuzzLoad: whatever the file holds, Load returns a configuration or errors
// with their places, and does not panic. What it takes, it takes again.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yml", "testdata/bad/*.yml", "testdata/*/collectors/*.yml", "testdata/good/sql_exporter/*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const name = "testdata/good/fuzz.yml"
		c, err := load(name, data, Options{Getenv: testEnv})
		if err == nil {
			again, err := load(name, data, Options{Getenv: testEnv})
			if diff := cmp.Diff(c, again, asConfigured); err != nil || diff != "" {
				t.Fatalf("loads differently a second time: %v\n%s", err, diff)
			}
			return
		}
		var all Errors
		if !errors.As(err, &all) || len(all) == 0 || c != nil {
			t.Fatalf("got %v and %v, want Errors alone", c, err)
		}
		for _, e := range all {
			if e.File == "" || e.Line < 1 || e.Problem == "" || e.Remedy == "" {
				t.Errorf("incomplete error %+v", e)
			}
			if e.File == name && e.Line > 1+len(lineBreak.FindAll(data, -1)) {
				t.Errorf("line %d is not in the file: %v", e.Line, e)
			}
		}
	})
}
