package e2e

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// good is a configuration without a fault; each case of TestBadInput puts one
// in by replacing a part.
const good = `remote_write:
  - {url: "http://127.0.0.1:9/api/v1/write"}
sources:
  - name: shop
    type: sqlite
    path: shop.db
    collectors: [orders]
collectors:
  - collector_name: orders
    interval: 10s
    metrics:
      - metric_name: orders
        type: gauge
        help: Orders by id.
        key_labels: [id]
        values: [n]
        query: SELECT id, n FROM orders
`

// TestBadInput hands the program what it cannot work with. It says what is
// wrong, where, and what to do, exits with 1, and changes nothing on disk.
func TestBadInput(t *testing.T) {
	for name, c := range map[string]struct {
		replace, with string
		prepare       func(t *testing.T, dir string)
		runOnly       bool     // nothing for check to find
		want          []string // lines on standard error
	}{
		"unknown field": {
			replace: "interval: 10s", with: "intervall: 10s",
			want: []string{`config.yml:10: collectors[orders].intervall: unknown field; did you mean interval?`},
		},
		"wrong type": {
			replace: "key_labels: [id]", with: "key_labels: {id: 1}",
			want: []string{`config.yml:15: collectors[orders].metrics[0].key_labels: holds a mapping where a list belongs; write [a, b], or one "- item" per line`},
		},
		"illegal metric name": {
			replace: "metric_name: orders", with: "metric_name: orders-open",
			want: []string{`config.yml:12: collectors[orders].metrics[0].metric_name: "orders-open" is not a legal metric name: receivers of remote write 1.0 take letters, digits, _ and : and no digit first; write orders_open`},
		},
		"label that collides with job": {
			replace: "key_labels: [id]", with: "key_labels: [id, job]",
			want: []string{`config.yml:15: collectors[orders].metrics[0].key_labels[1]: a label that collides with job, which every series of a source has; choose another name, such as job_name, and name the column so in the query with AS`},
		},
		"one name with two types": {
			replace: "        query: SELECT id, n FROM orders\n", with: `        query: SELECT id, n FROM orders
      - {metric_name: orders, type: counter, help: Again., values: [n], query: SELECT count(*) AS n FROM orders}
`,
			want: []string{`config.yml:18: collectors[orders].metrics[1].type: orders is of type counter here and of type gauge on line 13; give both one type, or rename one`},
		},
		"empty query": {
			replace: "SELECT id, n FROM orders", with: `"  "`,
			want: []string{`config.yml:17: collectors[orders].metrics[0].query: the query is empty; write a statement that returns rows`},
		},
		"missing collector file": {
			replace: "collectors:\n  -", with: "collector_files: [more.yml]\ncollectors:\n  -",
			want: []string{`config.yml:8: collector_files[0]: no file matches more.yml; check the name; it starts from the folder of this file`},
		},
		"several at once": {
			replace: "type: gauge\n        help: Orders by id.", with: "type: gouge\n        halp: Orders by id.",
			want: []string{
				`config.yml:13: collectors[orders].metrics[0].type: "gouge" is not known here; write gauge, counter, histogram, summary, stateset or info`,
				`config.yml:14: collectors[orders].metrics[0].halp: unknown field; did you mean help?`,
			},
		},
		"missing configuration": {
			prepare: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "config.yml")) },
			want:    []string{`config.yml: cannot be read: no such file or directory; check --config.file and who may read it`},
		},
		"unreadable secret": {
			replace: `write"}`, with: `write", basic_auth: {username: u, password_file: secret}}`,
			prepare: func(t *testing.T, dir string) { write(t, filepath.Join(dir, "secret"), "s3cret", 0) },
			want:    []string{`config.yml:2: remote_write[0].basic_auth.password_file: secret cannot be read: permission denied; check the name, which starts from the folder of this file, and who may read it`},
		},
		"unwritable data folder": {
			runOnly: true,
			prepare: func(t *testing.T, dir string) {
				if err := os.Mkdir(filepath.Join(dir, "data"), 0o555); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{`open the log in data: open lock of the log: open data/lock: permission denied; see to it that the agent's user may write there`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, uid := foreignFolder(t)
			if !strings.Contains(good, c.replace) {
				t.Fatalf("%q is not in the good configuration", c.replace)
			}
			write(t, filepath.Join(dir, "config.yml"), strings.Replace(good, c.replace, c.with, 1), 0o644)
			if c.prepare != nil {
				c.prepare(t, dir)
			}
			before := snapshot(t, dir)
			commands := []string{"run", "check"}
			if c.runOnly {
				commands = commands[:1]
			}
			for _, cmd := range commands {
				args := []string{cmd, "--config.file=" + filepath.Join(dir, "config.yml"), "--storage.path=" + filepath.Join(dir, "data")}
				if cmd == "run" {
					args = append(args, "--web.listen-address=127.0.0.1:0", "--log.level=error")
				}
				a := command(t, uid, args...)
				if code := a.exitCode(t); code != 1 {
					t.Errorf("%s: exit code %d, want 1", cmd, code)
				}
				said := strings.Split(strings.TrimSpace(strings.ReplaceAll(a.output.String(), dir+"/", "")), "\n")
				if diff := cmp.Diff(c.want, said); diff != "" {
					t.Errorf("%s said (-want +got):\n%s", cmd, diff)
				}
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("changed on disk (-before +after):\n%s", diff)
			}
		})
	}
}

// foreignFolder returns a new folder and the user to whom its files' modes
// mean something: root's processes could read and write everything.
func foreignFolder(t *testing.T) (dir string, uid uint32) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sql2metrics-foreign-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Getuid() != 0 {
		return dir, 0
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	return dir, nobody
}

// snapshot describes everything in a folder: names, modes, contents.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() && (info.Mode().Perm() != 0 || os.Getuid() == 0) {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		all[path] = fmt.Sprintf("%s %x", info.Mode(), sha256.Sum256(content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
