package remotewrite

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
)

// These tests end inquiries before they have an answer, and hold what each step
// of them costs.

// An inquiry that reaches its limit, or blocks for too long, while a sample is
// tried gives up the whole piece, once, for that reason.
func TestInquiryEndsAtAProbe(t *testing.T) {
	for name, c := range map[string]struct {
		block  time.Duration
		during func(s ship, f *fake) // before each step, once a sample is tried
		reason Reason
	}{
		"limit":   {0, func(s ship, f *fake) { s.window.requests[0].inquiry.sent = maxInquiry }, ReasonIsolationLimit},
		"blocked": {10 * time.Minute, func(_ ship, f *fake) { f.says(http.StatusServiceUnavailable, "") }, ReasonMaxBlock},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol, o.Endpoint.MaxBlock = config.ProtocolV1, c.block
			s, path := isolating(t, o)
			j.appendDue(12)
			f.says(http.StatusBadGateway, "") // so that all is in doubt, and reasons that say so themselves still hold
			now := epoch.Add(s.step(epoch))
			f.says(http.StatusConflict, "no")
			for !s.balance().Pending.IsZero() {
				if s.ready && s.window.unanswered() != none && s.window.requests[0].trying() {
					c.during(s, f)
				}
				now = now.Add(max(s.step(now), time.Millisecond))
			}
			if l := s.balance(); l.Dropped[c.reason].Samples != 12 || !l.Unconfirmed.IsZero() {
				t.Errorf("ledger is %+v, want 12 given up as %s", l, c.reason)
			}
			if letters := lettersOf(t, path); len(letters) != 1 || letters[0].Samples != 12 {
				t.Errorf("letters are %+v, want one of all", letters)
			}
		})
	}
}

// An inquiry sends nothing whose answer is known: when one half is taken whole
// the other is guilty, and is not sent before it is divided.
func TestWhatAnInquirySends(t *testing.T) {
	for name, c := range map[string]struct {
		guilty string
		partly string // a series that is not written, in an answer with counts; none: counts are not given
		want   []int
	}{
		"the last":                        {guilty: "7", want: []int{8, 1, 4, 2, 1, 1}},
		"the first":                       {guilty: "0", want: []int{8, 1, 1, 4, 2, 1, 1, 2, 4}},
		"the last, and one is half taken": {guilty: "7", partly: "1", want: []int{8, 1, 4, 4, 2, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol = config.ProtocolV2
			s, _ := isolating(t, o)
			j.appendDue(8)
			f.answers(func(w http.ResponseWriter, p post) {
				lines := p.lines(t)
				has := func(i string) bool { return strings.Contains(strings.Join(lines, "\n"), `i="`+i+`"`) }
				switch {
				case has(c.guilty):
					http.Error(w, "no", http.StatusConflict)
				case c.partly != "" && has(c.partly) && len(lines) > 1:
					w.Header().Set(headerSamplesWritten, "3")
				default:
					p.written(t, w)
				}
			})
			s.drain(epoch)
			if d := cmp.Diff(c.want, f.sizes()); d != "" {
				t.Errorf("sizes of requests (-want +got):\n%s", d)
			}
		})
	}
}

// With several requests inquired into, they go one at a time and in order, and
// after all that are not.
func TestInquiriesTakeTurns(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	o.Endpoint.Queue.MaxSamplesPerSend = 10
	s, _ := isolating(t, o)
	s.pace.limit = 4
	j.appendDue(80)
	air, most, asked := 0, 0, []int{}
	f.answers(func(w http.ResponseWriter, p post) {
		lines := p.lines(t)
		f.mu.Lock()
		if air++; len(lines) < 10 {
			most = max(most, air)
			asked = append(asked, indexOf(t, lines[0])/10)
		}
		f.mu.Unlock()
		if poisonIs("5", "15", "25")(strings.Split(lines[0], "} ")[0]+"}") || len(lines) == 10 && indexOf(t, lines[0]) < 30 {
			w.WriteHeader(http.StatusBadRequest)
		}
		f.mu.Lock()
		air--
		f.mu.Unlock()
	})
	s.drain(epoch)
	if most != 1 {
		t.Errorf("%d requests in the air at once while one is inquired into, want it alone", most)
	}
	for i := 1; i < len(asked); i++ {
		if asked[i] < asked[i-1] {
			t.Fatalf("inquiries are into %v, want one after the other from the first", asked)
		}
	}
	if l := s.balance(); !l.Pending.IsZero() || len(asked) < 9 {
		t.Errorf("ledger is %+v after %d pieces", l, len(asked))
	}
}

// A request that is found too large after many that were not has them counted
// anew.
func TestGrowthIsCountedAnew(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Queue.MaxSamplesPerSend = 8
	s := newShip(t, o)
	j.appendDue(8)
	s.grown = growAfter - 1
	f.takesUpTo(4)
	s.drain(epoch)
	if s.learned.Limit != 4 {
		t.Errorf("the limit is %d after two requests of it, want 4", s.learned.Limit)
	}
}

// The same bytes in two windows are two letters.
func TestSameRequestInTwoWindows(t *testing.T) {
	path := t.TempDir()
	d := openDead(t, DeadLetterOptions{Path: path})
	l := testLetter("a")
	for _, window := range []uint64{7, 7, 8} {
		l.Window = window
		d.keep(l, []byte("the same"))
	}
	if n := len(lettersOf(t, path)); n != 2 {
		t.Errorf("%d letters, want one of each window", n)
	}
}

// indexOf is the number of the series that a line is of.
func indexOf(t *testing.T, line string) int {
	t.Helper()
	_, rest, _ := strings.Cut(line, `i="`)
	text, _, _ := strings.Cut(rest, `"`)
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
