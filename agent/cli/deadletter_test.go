package cli

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/agent/remotewrite"
	"sql2metrics/config"
	"sql2metrics/wal"
)

// refuse ships a sample of each series to a receiver that refuses them, so that
// each is in the dead letter of the configuration in the working directory.
func refuse(t *testing.T, series ...string) {
	t.Helper()
	c, err := config.Load("sql2metrics.yml", config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	epoch := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	log, err := wal.Open(t.Context(), wal.Options{Path: c.Storage.Path, Sync: wal.SyncNever}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := remotewrite.OpenDeadLetter(remotewrite.DeadLetterOptions{
		Path: remotewrite.DeadLetterFolder(c.Storage.Path), MaxBytes: c.Storage.DeadLetterMaxBytes,
	})
	if err != nil {
		t.Fatal(err)
	}
	shipper, err := remotewrite.New(remotewrite.Options{
		Endpoint: c.RemoteWrite[0], Log: log, Logger: slog.New(slog.DiscardHandler), UserAgent: "test", DeadLetter: dead,
	})
	if err != nil {
		t.Fatal(err)
	}
	now := epoch
	for _, name := range series {
		round := wal.Round{Samples: []wal.Sample{{Series: log.Series(labels.FromStrings("__name__", name), wal.Metadata{}), T: now.UnixMilli(), V: 1}}}
		if _, err := log.Append(&round, now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Hour)
		if _, err := shipper.Step(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := shipper.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDeadLetter(t *testing.T) {
	golden, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	taking := ""
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || taking == "" || !strings.Contains(string(body), taking) {
			http.Error(w, "out of order sample", http.StatusBadRequest)
		}
	}))
	defer receiver.Close()
	text := "remote_write: [{name: mimir, protobuf_message: prometheus.WriteRequest, url: \"" + receiver.URL + "/push\"}]\n" +
		"sources: [{name: shop, type: sqlite, path: shop.db, collectors: [shop]}]\n" +
		"collectors: [{collector_name: shop, metrics: [{metric_name: n, type: gauge, help: N., values: [n], query: SELECT 1 AS n}]}]\n"
	if err := os.WriteFile("sql2metrics.yml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	run := func(args ...string) {
		var stdout, stderr strings.Builder
		code := Main(args, &stdout, &stderr)
		out.WriteString("$ sql2metrics " + strings.Join(args, " ") + "\n" + stdout.String())
		if stderr.Len() > 0 {
			out.WriteString("-- stderr --\n" + stderr.String())
		}
		out.WriteString("-- exit " + string(rune('0'+code)) + " --\n")
	}
	id := func(series string) string {
		letters, err := remotewrite.Letters(remotewrite.DeadLetterFolder("data"), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range letters {
			if strings.Contains(l.Series[0], series) {
				return l.ID
			}
		}
		t.Fatalf("no letter is of %s", series)
		return ""
	}
	run("deadletter", "list")
	run("deadletter", "rm", "--all")
	refuse(t, "first", "second", "third", "fourth")
	run("deadletter", "list")
	run("deadletter", "list", "--format=json", "--endpoint=mimir")
	run("deadletter", "list", "--endpoint=other")
	run("deadletter", "resend", id("second"), "none")
	taking = "second"
	run("deadletter", "resend")
	run("deadletter", "rm")
	run("deadletter", "rm", "--all", id("third"))
	run("deadletter", "rm", "--endpoint=other")
	run("deadletter", "rm", id("third"), "none")
	run("deadletter", "list")
	run("deadletter", "rm", "--endpoint=mimir", id("first"))
	run("deadletter", "rm", "--all")
	run("deadletter", "list")

	got := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(out.String(), "127.0.0.1:9009")
	file := filepath.Join(golden, "deadletter.golden")
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
}

// TestPrintLetters prints what receivers may have said.
func TestPrintLetters(t *testing.T) {
	var out strings.Builder
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	letter := func(status int, words string, w *remotewrite.Written) remotewrite.Letter {
		return remotewrite.Letter{Endpoint: "m", ID: "1", Time: at, Reason: remotewrite.ReasonRejected, Status: status, Words: words, Samples: 5, Written: w}
	}
	err := printLetters(&out, []remotewrite.Letter{
		letter(0, "connection refused", nil),
		letter(400, "first\nsecond", nil),
		letter(200, "", &remotewrite.Written{Samples: 3}),
		letter(400, "duplicate sample", &remotewrite.Written{Samples: 4}),
		{Endpoint: "m", ID: "2", Time: at, Reason: remotewrite.ReasonRejected, Unconfirmed: true, Words: "\x1b[2J", Samples: 5},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `ENDPOINT  ID  GIVEN UP              REASON                 SAMPLES  HISTOGRAMS  EXEMPLARS  BYTES  FIRST SERIES  ANSWER
m         1   2026-03-01T12:00:00Z  rejected               5        0           0          0                    connection refused
m         1   2026-03-01T12:00:00Z  rejected               5        0           0          0                    400 first
m         1   2026-03-01T12:00:00Z  rejected               5        0           0          0                    200 (partly stored: 3 samples, 0 histograms, 0 exemplars)
m         1   2026-03-01T12:00:00Z  rejected               5        0           0          0                    400 duplicate sample (partly stored: 4 samples, 0 histograms, 0 exemplars)
m         2   2026-03-01T12:00:00Z  rejected, unconfirmed  5        0           0          0                    "\x1b[2J"
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
