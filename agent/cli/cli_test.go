package cli

import (
	"context"
	"database/sql"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exposition is what the shop's exporter says.
const exposition = `# TYPE served counter
# HELP served Requests.
served_total{code="200"} 7.0 # {trace_id="abc"} 0.5
served_created{code="200"} 1.7e9
# TYPE wait_seconds histogram
wait_seconds_bucket{le="1.0"} 2
wait_seconds_bucket{le="+Inf"} 3
wait_seconds_sum 4.5
wait_seconds_count 3
# EOF
`

// inShop makes a folder with a shop's database and configuration the working
// directory.
func inShop(t *testing.T) {
	t.Helper()
	files := map[string]string{"shop.yml": "sql2metrics.yml", "bad-sources.yml": "bad-sources.yml", "warned.yml": "warned.yml"}
	folder := t.TempDir()
	for from, to := range files {
		text, err := os.ReadFile(filepath.Join("testdata", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, to), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(folder)
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0")
		_, _ = io.WriteString(w, exposition)
	}))
	t.Cleanup(exporter.Close)
	t.Setenv("EXPORTER", exporter.URL)
	db, err := sql.Open("sqlite", "shop.db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE orders (status TEXT, region TEXT, amount NUMERIC);
		INSERT INTO orders VALUES ('open', 'eu', 12.5), ('open', 'us', 3), ('paid', 'eu', NULL), ('paid', NULL, 7)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// volatile is what differs from run to run in the commands' output.
var volatile = []struct{ pattern, with string }{
	{`time=\S+ level`, "time=T level"},
	{`seconds \d+\.\d{3}`, "seconds 0.001"},
	{`(scrape_duration_seconds\{.*\}) \S+`, "$1 0.001"},
	{`(?s)("scrape_duration_seconds".*?"value": )\S+`, `${1}"0.001",`},
	{`at \d{4}-\S+Z`, "at 2026-03-01T12:00:00Z"},
	{`"seconds": \S+`, `"seconds": 0.001,`},
	{`"timestamp": \S+`, `"timestamp": 1772366400`},
	{`(?s)sql2metrics, version .*`, "sql2metrics, version V\n"},
}

// The output of every command is a golden file. go test ./agent/cli -update
// rewrites them; the diff is reviewed.
func TestOutput(t *testing.T) {
	golden, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"help":            {"--help"},
		"version":         {"version"},
		"no-command":      {"fly"},
		"bad-flag":        {"run", "--speed=11"},
		"check":           {"check"},
		"check-missing":   {"check", "--config.file=none.yml"},
		"check-sources":   {"check", "--config.file=bad-sources.yml"},
		"check-warned":    {"check", "--config.file=warned.yml"},
		"query":           {"query", "shop"},
		"query-json":      {"query", "shop", "--format=json"},
		"query-execute":   {"query", "shop", "-e", "SELECT 1 AS one, 'a b' AS two, NULL AS three"},
		"query-collector": {"query", "shop", "--collector", "mo*"},
		"query-types":     {"query", "shop", "--collector", "types"},
		"query-no-source": {"query", "shopp"},
		"query-nothing":   {"query", "shop", "--collector", "x"},
		"query-bad-sql":   {"query", "shop", "-e", "SELECT nothing"},
		"query-write":     {"query", "shop", "-e", "DELETE FROM orders"},
		"query-refused":   {"query", "shop", "--collector", "bad"},
		"query-scrape":    {"query", "exporter"},
		"query-page":      {"query", "exporter", "--format=json"},
		"query-no-page":   {"query", "wrong"},
		"query-no-rows":   {"query", "exporter", "-e", "SELECT 1"},
	} {
		t.Run(name, func(t *testing.T) {
			inShop(t)
			var stdout, stderr strings.Builder
			code := Main(args, &stdout, &stderr)
			var out strings.Builder
			out.WriteString("$ sql2metrics " + strings.Join(args, " ") + "\n")
			out.WriteString(stdout.String())
			if stderr.Len() > 0 {
				out.WriteString("-- stderr --\n" + stderr.String())
			}
			out.WriteString("-- exit " + string(rune('0'+code)) + " --\n")
			got := out.String()
			for _, v := range volatile {
				got = regexp.MustCompile(v.pattern).ReplaceAllString(got, v.with)
			}
			file := filepath.Join(golden, name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
			left, err := os.ReadDir(".")
			if err != nil {
				t.Fatal(err)
			}
			if len(left) != 4 {
				t.Errorf("the command left files: %v", left)
			}
		})
	}
}

// Lines that a library prints come in the log's own format, without what a
// server has said.
func TestLibrariesAreLogged(t *testing.T) {
	var b strings.Builder
	end := takeOver(newLogger(&b, "debug", "json"))
	log.Printf("out of turn: %q", "Basic bW9u")
	end()
	if !strings.Contains(b.String(), `"level":"DEBUG","msg":"a library says","line":"out of turn:"}`) {
		t.Errorf("logged %q", b.String())
	}
}

func TestLedger(t *testing.T) {
	l := newLedger()
	both := func(series string, at int64, v float64) {
		l.appended(series, at, v)
		l.received(series, at, v)
	}
	both("a", 1, 1)
	both("a", 2, 2)
	l.received("a", 2, 2)
	l.appended("b", 1, 1)
	l.appended("b", 2, 1)
	l.received("b", 2, 1)
	var out strings.Builder
	got, err := l.print(&out)
	if err != nil {
		t.Fatal(err)
	}
	want := tally{appended: 4, received: 4, lost: 1, duplicated: 1}
	if got != want {
		t.Errorf("the ledger is %+v, want %+v", got, want)
	}
	wantText := `
ledger, in samples
  appended   4   acknowledged by the log
  received   4
  lost 1
  duplicated 1   sent again because the answer was lost
    lost 1 of 2: b
`
	if diff := cmp.Diff(wantText, out.String()); diff != "" {
		t.Error(diff)
	}

	both("a", 2+settledAfter+1, 3)
	l.settle()
	if settled, _ := l.sum(); settled.appended != 5 || settled.lost != 1 || settled.duplicated != 1 {
		t.Errorf("settling changed the ledger: %+v", settled)
	}
	if n := len(l.series["a"].samples); n != 1 {
		t.Errorf("%d samples of a are kept, want 1", n)
	}

	l.received("a", 99, 1)
	if _, err := l.print(&out); err == nil {
		t.Error("a sample that was never appended is no error")
	}
	l = newLedger()
	l.appended("a", 1, 1)
	l.received("a", 1, 2)
	if _, err := l.print(&out); err == nil {
		t.Error("two values for one time are no error")
	}
}

func TestWorkloadStops(t *testing.T) {
	w, err := openWorkload(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := w.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.run(ctx); err != nil {
		t.Error(err)
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}
