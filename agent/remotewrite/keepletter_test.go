package remotewrite

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// TestDeadLetterThatCannotBeWritten counts all the same.
func TestDeadLetterThatCannotBeWritten(t *testing.T) {
	j, f, o := backlog(t)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o.DeadLetter = openDead(t, DeadLetterOptions{Path: path, Logger: slog.New(slog.NewTextHandler(&out, nil))})
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

// TestLettersAreSafeBeforeTheirOutcome holds that no cursor says that samples
// were refused before their letter survives power loss.
func TestLettersAreSafeBeforeTheirOutcome(t *testing.T) {
	disk := newLetterDisk()
	f := newFake(t)
	j := openJournal(t, t.TempDir(), wal.Options{FS: disk})
	o := Options{Endpoint: endpoint(t, f.URL), Log: j.Log, DeadLetter: openDead(t, DeadLetterOptions{Path: t.TempDir(), FS: disk})}
	o.Endpoint.Protocol = config.ProtocolV1
	o.Endpoint.Queue.MaxSamplesPerSend = 10
	s := newShip(t, o)
	st := newStore(poisonIs("3", "31"))
	st.serve(f)
	j.append(epoch.Add(-time.Minute), round(j.family("due", 40), epoch.Add(-time.Minute), 1)...)
	s.drain(epoch)
	written, unsafe, saved := 0, false, false
	for _, op := range disk.order {
		switch op {
		case opWriteLetter:
			written, unsafe, saved = written+1, true, false
		case opSyncLetters:
			unsafe = false
		case "save cursor":
			saved = true
			if unsafe {
				t.Error("a cursor is saved between a letter and its sync")
			}
		}
	}
	if written != 2 || !saved {
		t.Errorf("%d letters were written, want 2, and the cursor saved: %q", written, disk.order)
	}
}

// TestStepNoticesRemovals has all letters removed while the endpoint is down.
func TestStepNoticesRemovals(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	s, path := isolating(t, o)
	j.appendDue(5)
	f.says(http.StatusConflict, "no")
	s.drain(epoch)
	f.says(http.StatusServiceUnavailable, "later")
	j.append(epoch, round(j.family("later", 5), epoch, 1)...)
	s.drain(epoch.Add(time.Minute))
	if n, err := RemoveLetters(path, lettersOf(t, path)); n != 1 || err != nil {
		t.Fatalf("removed %d, %v, want one", n, err)
	}
	s.step(epoch.Add(time.Minute + lookEvery))
	if n := gaugeOf(t, s.deadLetter.letters); n != 0 || len(segmentsIn(t, path)) != 0 {
		t.Errorf("%d letters are counted, and %q is left", n, segmentsIn(t, path))
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

// TestResendIsBelieved by what the receiver says it has written.
func TestResendIsBelieved(t *testing.T) {
	write := func(samples string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.Header().Set(headerSamplesWritten, samples) }
	}
	for name, c := range map[string]struct {
		configured config.Protocol
		answer     func(w http.ResponseWriter)
		kept       string // in the error; empty: the letter goes
	}{
		"all":                         {answer: write("5")},
		"a part":                      {answer: write("4"), kept: "4 of 5 samples"},
		"nothing is said":             {answer: func(http.ResponseWriter) {}, kept: "does not say"},
		"nothing is said, configured": {configured: config.ProtocolV2, answer: func(http.ResponseWriter) {}},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol = c.configured
			s, path := isolating(t, o)
			s.learned.Confirmed = true
			due, at := j.family("due", 5), epoch.Add(-time.Minute)
			j.appendRound(at, wal.Round{
				Samples:   round(due, at, 1),
				Exemplars: []wal.Exemplar{{Series: due[0], T: at.UnixMilli(), V: 1}}, // none is ever written
			})
			f.says(http.StatusConflict, "no")
			s.drain(epoch)
			r, err := NewResender(o.Endpoint, "test")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			f.answers(func(w http.ResponseWriter, _ post) { c.answer(w) })
			_, err = r.Resend(t.Context(), lettersOf(t, path)[0])
			if left := len(lettersOf(t, path)); (err != nil) != (c.kept != "") || left != map[bool]int{true: 1}[c.kept != ""] {
				t.Errorf("%d letters are left, %v", left, err)
			}
			if err != nil && !strings.Contains(err.Error(), c.kept) {
				t.Errorf("the error is %v, want %q", err, c.kept)
			}
		})
	}
}

// A letter and the status page say unconfirmed where the books do.
func TestUnconfirmedIsShown(t *testing.T) {
	for name, c := range map[string]struct {
		rounds int
		before int // status of an earlier attempt
		want   bool
		do     string
	}{
		"rejected":                   {rounds: 1, do: "out_of_order_time_window"},
		"several samples per series": {rounds: 2, want: true, do: "out_of_order_time_window"},
		"sent before":                {rounds: 1, before: http.StatusBadGateway, want: true, do: "look at the receiver"},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol = config.ProtocolV1
			s, path := isolating(t, o)
			due := j.family("due", 5)
			for i := range c.rounds {
				at := epoch.Add(time.Duration(i-60) * time.Second)
				j.append(at, round(due, at, 1)...)
			}
			now := epoch
			if c.before != 0 {
				f.says(c.before, "")
				now = now.Add(s.step(now))
			}
			f.says(http.StatusBadRequest, "out of order sample")
			s.drain(now)
			if l := s.balance(); l.Unconfirmed.IsZero() == c.want {
				t.Fatalf("ledger is %+v", l)
			}
			if letters := lettersOf(t, path); len(letters) != 1 || letters[0].Unconfirmed != c.want {
				t.Errorf("letters are %+v", letters)
			}
			if r := s.Status().Refusal; r.Unconfirmed != c.want || !strings.Contains(r.Do, c.do) {
				t.Errorf("the last refusal is %+v", r)
			}
			if out := s.log.String(); !strings.Contains(out, c.do) {
				t.Errorf("the log is\n%s", out)
			}
		})
	}
}

// A refusal of what was sent before hides no real one behind it.
func TestRefusalAfterOneInDoubt(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Queue.MaxSamplesPerSend = 3
	o.Endpoint.Protocol = config.ProtocolV1
	s, _ := isolating(t, o)
	j.appendDue(6)
	f.says(http.StatusBadGateway, "") // to the first request of two
	now := epoch.Add(s.step(epoch))
	f.says(http.StatusBadRequest, "out of order sample")
	s.drain(now)
	out := s.log.String()
	for _, want := range []string{"may have from an earlier attempt", "refused samples for good", "came too late"} {
		if strings.Count(out, want) != 1 {
			t.Errorf("the log does not say %q once:\n%s", want, out)
		}
	}
}

// TestPartlyWritten has a receiver of 2.0 say that it has written less than it
// was sent.
func TestPartlyWritten(t *testing.T) {
	for name, c := range map[string]struct {
		status             int
		samples, exemplars int // written
		want               []*Written
	}{
		"2xx, a part":            {200, 3, 1, []*Written{{Samples: 3, Exemplars: 1}}},
		"2xx, nothing":           {200, 0, 0, []*Written{nil}},
		"2xx, all but exemplars": {200, 5, 0, nil},
		"4xx, a part":            {400, 3, 1, []*Written{{Samples: 3, Exemplars: 1}}},
		"4xx, all but exemplars": {400, 5, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol = config.ProtocolV2
			s, path := isolating(t, o)
			due := j.family("due", 5)
			j.appendRound(epoch.Add(-time.Minute), wal.Round{
				Samples:   round(due, epoch.Add(-time.Minute), 1),
				Exemplars: []wal.Exemplar{{Series: due[0], T: epoch.Add(-time.Minute).UnixMilli(), V: 1}},
			})
			f.answers(func(w http.ResponseWriter, _ post) {
				w.Header().Set(headerSamplesWritten, strconv.Itoa(c.samples))
				w.Header().Set(headerExemplarsWritten, strconv.Itoa(c.exemplars))
				w.WriteHeader(c.status)
			})
			s.drain(epoch)
			if l := s.balance(); l.Sent.Samples != uint64(c.samples) || l.Dropped[ReasonRejected].Samples != uint64(5-c.samples) || l.Dropped[ReasonRejected].Exemplars != uint64(1-c.exemplars) {
				t.Errorf("ledger is %+v", l)
			}
			var got []*Written
			for _, l := range lettersOf(t, path) {
				got = append(got, l.Written)
				if l.Samples != 5 || l.Exemplars != 1 || l.Status != c.status || l.Reason != ReasonRejected {
					t.Errorf("dead letter is %+v, want the whole request", l)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("what the letters say is written (-want +got):\n%s", d)
			}
		})
	}
}

// TestLetterIsWhatWasRefused has the endpoint spoken to in the other protocol
// by the time that an answer is drawn upon, with what 1.0 cannot carry in the
// request.
func TestLetterIsWhatWasRefused(t *testing.T) {
	forBothProtocols(t, func(t *testing.T, refused config.Protocol) {
		j, f, o := backlog(t)
		o.Endpoint.Protocol = config.ProtocolV1
		if refused == config.ProtocolV1 {
			o.Endpoint.Protocol = config.ProtocolV2
		}
		s, path := isolating(t, o)
		due, wide := j.family("due", 5), j.series("wide")
		at := epoch.Add(-time.Minute)
		j.appendRound(at, wal.Round{
			Samples: round(due, at, 1),
			Histograms: []wal.Histogram{{Series: wide, T: at.UnixMilli(), H: &histogram.Histogram{
				Schema: histogram.CustomBucketsSchema, Count: 1, CustomValues: []float64{1}, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{1},
			}}},
			Exemplars: []wal.Exemplar{{Series: wide, T: at.UnixMilli(), V: 1}},
		})
		f.says(http.StatusServiceUnavailable, "later")
		s.drain(epoch)
		s.keepLetter(&s.window.requests[0], ReasonRejected, &answer{protocol: refused, status: 422, words: "no"}, false, epoch)

		letters := lettersOf(t, path)
		if len(letters) != 1 || letters[0].Protocol != refused {
			t.Fatalf("letters are %+v, want one", letters)
		}
		l := letters[0]
		raw, err := l.body()
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = snappy.Decode(nil, raw); err != nil {
			t.Fatal(err)
		}
		var got Written
		if refused == config.ProtocolV1 {
			var m prompb.WriteRequest
			if err := m.Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			for _, ts := range m.Timeseries {
				got = Written{got.Samples + uint64(len(ts.Samples)), got.Histograms + uint64(len(ts.Histograms)), got.Exemplars + uint64(len(ts.Exemplars))}
			}
		} else {
			var m writev2.Request
			if err := m.Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			for _, ts := range m.Timeseries {
				got = Written{got.Samples + uint64(len(ts.Samples)), got.Histograms + uint64(len(ts.Histograms)), got.Exemplars + uint64(len(ts.Exemplars))}
			}
		}
		if want := (Written{l.Samples, l.Histograms, l.Exemplars}); got != want || got.Samples != 5 {
			t.Errorf("letter counts %+v, and has %+v", want, got)
		}
	})
}
