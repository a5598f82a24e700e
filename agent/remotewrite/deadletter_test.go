package remotewrite

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sql2metrics/config"
)

func testLetter(endpoint string) *Letter {
	return &Letter{
		Endpoint: endpoint, Time: epoch, Reason: ReasonRejected, Status: 400, Words: "no \"thanks\"\n", Protocol: config.ProtocolV1,
		Series: []string{`{__name__="a"}`}, Samples: 3, Histograms: 2, Exemplars: 1,
	}
}

func TestLetterRoundTrip(t *testing.T) {
	b, err := testLetter("a").encode([]byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	l, body, err := decodeLetter(b)
	if err != nil || string(body) != "body" {
		t.Fatalf("body %q, %v", body, err)
	}
	if d := cmp.Diff(testLetter("a"), &l, cmpopts.IgnoreUnexported(Letter{})); d != "" {
		t.Errorf("letter (-want +got):\n%s", d)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1
		if _, _, err := decodeLetter(damaged); !errors.Is(err, errLetterDamaged) {
			t.Errorf("byte %d is damaged, and the error is %v", i, err)
		}
		if _, _, err := decodeLetter(b[:i]); !errors.Is(err, errLetterDamaged) {
			t.Errorf("%d bytes are left, and the error is %v", i, err)
		}
	}
}

func FuzzDecodeLetter(f *testing.F) {
	b, err := testLetter("a").encode([]byte("body"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(letterMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, body, err := decodeLetter(b); err == nil && len(body) > len(b) {
			t.Error("the body is longer than the file")
		}
	})
}

// TestDeadLetterIsBounded writes letters of two endpoints.
func TestDeadLetterIsBounded(t *testing.T) {
	path := t.TempDir()
	r := prometheus.NewRegistry()
	d, err := OpenDeadLetter(DeadLetterOptions{Path: path, MaxBytes: 42_000, Registerer: r})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		d.keep(testLetter([]string{"a", "../b/:"}[i%2]), fmt.Sprintf("20260301T12%04d", i), make([]byte, 700))
	}
	letters := lettersOf(t, path)
	total := int64(0)
	for i, l := range letters {
		total += onDisk(l.Bytes)
		if want := fmt.Sprintf("20260301T12%04d", 50-len(letters)+i); l.ID != want {
			t.Errorf("letter %d is %s, want %s: the oldest go", i, l.ID, want)
		}
	}
	if total > 42_000 || len(letters) != 10 {
		t.Errorf("%d letters of %d bytes, the bound is 42000", len(letters), total)
	}
	want := fmt.Sprintf(`
# HELP sql2metrics_dead_letter_bytes Bytes of the dead letter on disk.
# TYPE sql2metrics_dead_letter_bytes gauge
sql2metrics_dead_letter_bytes %d
# HELP sql2metrics_dead_letter_requests Refused requests in the dead letter.
# TYPE sql2metrics_dead_letter_requests gauge
sql2metrics_dead_letter_requests %d
# HELP sql2metrics_dead_letter_requests_evicted_total Requests removed from the dead letter to keep storage.dead_letter_max_bytes.
# TYPE sql2metrics_dead_letter_requests_evicted_total counter
sql2metrics_dead_letter_requests_evicted_total %d
# HELP sql2metrics_dead_letter_requests_written_total Refused requests that were written to the dead letter.
# TYPE sql2metrics_dead_letter_requests_written_total counter
sql2metrics_dead_letter_requests_written_total 50
`, total, len(letters), 50-len(letters))
	prefix := "sql2metrics_dead_letter_"
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), prefix+"bytes", prefix+"requests", prefix+"requests_evicted_total", prefix+"requests_written_total"); err != nil {
		t.Error(err)
	}
	if of, err := Letters(path, "../b/:"); err != nil || len(of) == 0 || len(of) == len(letters) {
		t.Errorf("%d letters of one endpoint, %v", len(of), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("beside the folder there are %v, %v", entries, err)
	}
}

// TestDeadLetterThatCannotBeWritten counts all the same.
func TestDeadLetterThatCannotBeWritten(t *testing.T) {
	j, f, o := backlog(t)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var err error
	if o.DeadLetter, err = OpenDeadLetter(DeadLetterOptions{Path: path, MaxBytes: 1 << 20, Logger: slog.New(slog.NewTextHandler(&out, nil))}); err != nil {
		t.Fatal(err)
	}
	o.Endpoint.Protocol = config.ProtocolV1
	o.Endpoint.Queue.MaxSamplesPerSend = 1
	s := newShip(t, o)
	j.appendDue(5)
	f.says(http.StatusConflict, "no")
	s.drain(epoch)
	if l := s.balance(); l.Dropped[ReasonRejected].Samples != 5 {
		t.Errorf("ledger is %+v, want 5 samples rejected", l)
	}
	if n := strings.Count(out.String(), "cannot be written"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, out.String())
	}
}

// TestResend sends what was refused again, the same bytes.
func TestResend(t *testing.T) {
	forBothProtocols(t, func(t *testing.T, p config.Protocol) {
		j, f, o := backlog(t)
		o.Endpoint.Protocol = p
		s, path := isolating(t, o)
		j.appendDue(5)
		f.says(http.StatusConflict, "no")
		s.drain(epoch)
		refused := f.bodies()[0]
		letters := lettersOf(t, path)
		if len(letters) != 1 {
			t.Fatalf("dead letters are %+v, want one", letters)
		}
		r, err := NewResender(o.Endpoint, "test")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Resend(t.Context(), letters[0]); err == nil || !strings.Contains(err.Error(), "409 Conflict: no") {
			t.Errorf("the error is %v, want the receiver's words", err)
		}
		if n := len(lettersOf(t, path)); n != 1 {
			t.Errorf("%d letters are left after a refusal, want it", n)
		}
		f.received()
		f.takes()
		if answer, err := r.Resend(t.Context(), letters[0]); err != nil || answer != "200 OK" {
			t.Errorf("answer %q, %v", answer, err)
		}
		if got := f.bodies(); len(got) != 1 || got[0] != refused {
			t.Error("the bytes are not those that were refused")
		}
		if n := len(lettersOf(t, path)); n != 0 {
			t.Errorf("%d letters are left", n)
		}
		if _, err := r.Resend(t.Context(), letters[0]); err == nil {
			t.Error("a letter that is gone is sent")
		}
	})
}
