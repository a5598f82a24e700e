package remotewrite

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/e2e/servers"
	"sql2metrics/wal"
)

// TestStates walks an endpoint through its states.
func TestStates(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.URL.RawQuery = "token=s3cret"
	o.Endpoint.URL.Path = "/s3cret/push"
	s := newShip(t, o)
	due := j.family("due", 3)
	if st := s.Status(); st.State != EndpointUnknown || st.Words != "" || st.Name != "test" || st.Address != f.URL {
		t.Errorf("before the first answer the status is %+v", st)
	}

	now := epoch
	for i, c := range []struct {
		status int
		words  string
		want   EndpointState
		does   string // in what to do
		logged string
		still  bool // the state was there before
	}{
		{status: 200, want: EndpointUp},
		{status: 429, words: "slow down", want: EndpointThrottled, logged: "endpoint throttled"},
		{status: 503, words: "not now", want: EndpointDown, logged: "endpoint down"},
		{status: 502, words: "still not", want: EndpointDown, still: true},
		{status: 429, words: "again", want: EndpointThrottled, logged: "endpoint throttled"},
		{status: 401, words: "who?", want: EndpointMisconfigured, does: "basic_auth", logged: "takes nothing as it is configured"},
		{status: 200, want: EndpointUp, logged: "endpoint recovered"},
	} {
		before := s.Status()
		s.log.Reset()
		now = now.Add(10 * time.Minute)
		at := now.Add(-time.Minute)
		j.append(at, round(due, at, float64(i))...)
		if c.status == 200 {
			f.takes()
		} else {
			f.says(c.status, c.words)
		}
		s.step(now)
		st := s.Status()
		since := now
		if c.still {
			since = before.Since
		}
		if st.State != c.want || !st.Since.Equal(since) || !strings.HasSuffix(st.Words, c.words) || (st.Words == "") != (c.words == "") ||
			!strings.Contains(st.Do, c.does) || (st.Do == "") != (c.does == "") {
			t.Errorf("after %d the status is %+v, want %s since %v", c.status, st, c.want, since)
		}
		if !strings.Contains(s.log.String(), c.logged) || c.logged == "" && s.log.Len() > 0 {
			t.Errorf("after %d the log says %q", c.status, s.log)
		}
	}
	if st := s.Status(); st.Refusal != (Refusal{}) {
		t.Errorf("a refusal is known, and there was none: %+v", st.Refusal)
	}
}

// TestStatusKeepsTheAddressSecret has an endpoint that cannot be reached.
func TestStatusKeepsTheAddressSecret(t *testing.T) {
	j, _, o := backlog(t)
	o.Endpoint.URL.Host = servers.HoldPort(t)
	o.Endpoint.URL.RawQuery, o.Endpoint.URL.Path = "token=s3cret", "/s3cret/push"
	s := newShip(t, o)
	j.appendDue(1)
	s.step(epoch)
	st := s.Status()
	if st.State != EndpointDown || st.Words == "" || strings.Contains(st.Words+st.Do+st.Address, "s3cret") {
		t.Errorf("status is %+v", st)
	}
}

// TestStalled takes the log away.
func TestStalled(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(3)
	s.drain(epoch)
	later := epoch.Add(time.Hour)
	j.append(later, round(j.family("due", 3), later, 2)...)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	now := later.Add(time.Minute)
	for range 2 {
		_, err := s.Step(context.Background(), now)
		s.report(err, now)
		now = now.Add(time.Minute)
	}
	st := s.Status()
	if st.State != EndpointStalled || !st.Since.Equal(later.Add(time.Minute)) || st.Words == "" || st.Do == "" {
		t.Errorf("status is %+v, want it stalled since %v", st, later.Add(time.Minute))
	}
	s.report(nil, now)
	if st := s.Status(); st.State != EndpointUp {
		t.Errorf("status is %+v after the log is there again", st)
	}
	f.received()
}

// TestLastRefusal has a receiver refuse what is too old for it.
func TestLastRefusal(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(3)
	f.answers(func(w http.ResponseWriter, _ post) {
		w.Header().Set(headerSamplesWritten, "1")
		http.Error(w, "out of order sample", http.StatusBadRequest)
	})
	s.drain(epoch)
	st := s.Status()
	r := st.Refusal
	if st.State != EndpointUp || !strings.Contains(r.Do, "out_of_order_time_window") {
		t.Errorf("status is %+v; it takes what it is sent, and the remedy is its out-of-order window", st)
	}
	r.Do = ""
	want := Refusal{Time: epoch, Reason: ReasonRejected, Words: "400 Bad Request: out of order sample"}
	want.Lost.Samples = 2
	if d := cmp.Diff(want, r); d != "" {
		t.Errorf("refusal (-want +got):\n%s", d)
	}
}

// Exemplars that a receiver never writes are said once, and hide no real loss.
func TestExemplarsHideNoLoss(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	due := j.family("due", 3)
	now := epoch
	window := func(withExemplar bool) {
		now = now.Add(time.Minute)
		r := wal.Round{Samples: round(due, now, 1)}
		if withExemplar {
			r.Exemplars = []wal.Exemplar{{Series: due[0], T: now.UnixMilli(), V: 1, Labels: labels.FromStrings("trace", now.String())}}
		}
		j.appendRound(now, r)
		s.drain(now.Add(10 * time.Second))
	}
	for range 30 {
		window(true)
	}
	if out := s.log.String(); strings.Count(out, "stores no exemplars") != 1 || strings.Contains(out, "refused samples") {
		t.Errorf("the log is\n%s", out)
	}
	if refusal := s.Status().Refusal; refusal != (Refusal{}) {
		t.Errorf("the last refusal is %+v, want none for exemplars", refusal)
	}
	f.says(http.StatusConflict, "a real loss")
	window(false)
	f.takes()
	window(true)
	if out := s.log.String(); strings.Count(out, "a real loss") != 1 || !strings.Contains(s.Status().Refusal.Words, "a real loss") {
		t.Errorf("the log of a real loss is\n%s", out)
	}
	for range 12 {
		window(true)
	}
	if out := s.log.String(); !strings.Contains(out, "takes everything again") {
		t.Errorf("after 12 minutes without a loss the log is\n%s", out)
	}
	if l := s.balance(); l.Dropped[ReasonRejected] != (wal.Totals{Samples: 3, Exemplars: 43}) {
		t.Errorf("ledger is %+v, want 3 samples and 43 exemplars rejected", l)
	}
}
