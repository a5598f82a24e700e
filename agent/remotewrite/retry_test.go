package remotewrite

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/wal"
)

// backlog is a log with one round of ten series that is due at epoch.
func backlog(t *testing.T) (journal, *fake, Options) {
	t.Helper()
	f := newFake(t)
	j := openJournal(t, t.TempDir(), wal.Options{})
	return j, f, Options{Endpoint: endpoint(t, f.URL), Log: j.Log}
}

func (j journal) appendDue(n int) {
	j.tb.Helper()
	old := epoch.Add(-time.Minute)
	j.append(old, round(j.family("due", n), old, 1)...)
}

func TestRetryBacksOff(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(10)
	f.says(http.StatusServiceUnavailable, "not now")

	now := epoch
	var rests []time.Duration
	for range 9 {
		rest := s.step(now)
		rests = append(rests, rest)
		if again := s.step(now.Add(rest - time.Millisecond)); again != time.Millisecond {
			t.Fatalf("a step during the backoff rests %v, want the millisecond that is left", again)
		}
		now = now.Add(rest)
	}
	second := time.Second
	want := []time.Duration{second, 2 * second, 4 * second, 8 * second, 16 * second, 32 * second, 60 * second, 60 * second, 60 * second}
	if d := cmp.Diff(want, rests); d != "" {
		t.Errorf("rests (-want +got):\n%s", d)
	}
	posts := f.received()
	if len(posts) != len(want) {
		t.Fatalf("%d attempts, want %d", len(posts), len(want))
	}
	for _, p := range posts {
		if string(p.body) != string(posts[0].body) {
			t.Error("an attempt sent other bytes than the first")
		}
	}
	if l := s.balance(); l.Pending.Samples != 10 || !l.Oldest.Equal(epoch.Add(-time.Minute)) {
		t.Errorf("ledger is %+v, want 10 samples pending since a minute before", l)
	}

	f.takes()
	s.drain(now)
	if l := s.balance(); l.Sent.Samples != 10 {
		t.Errorf("ledger is %+v, want 10 samples sent", l)
	}
	for _, line := range []string{"endpoint down", "503 Service Unavailable: not now", "endpoint recovered"} {
		if n := strings.Count(s.log.String(), line); n != 1 {
			t.Errorf("the log says %q %d times, want once:\n%s", line, n, s.log)
		}
	}
}

func TestOneRequestAtATimeUntilItRecovers(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Queue.MaxSamplesPerSend = 1
	s := newShip(t, o)
	j.appendDue(40)
	f.says(http.StatusTooManyRequests, "slow down")
	now := epoch
	for range 3 {
		now = now.Add(s.step(now))
		if n := len(f.received()); n != 1 {
			t.Fatalf("%d requests to an endpoint that is down, want one", n)
		}
	}
	f.takes()
	s.drain(now)
	if n := len(f.lines()); n != 40 {
		t.Errorf("%d samples arrived, want 40", n)
	}
}

func TestPace(t *testing.T) {
	p := newPace(6, time.Second, 10*time.Second, func() float64 { return 0.5 })
	limits := []int{p.limit}
	for range 4 {
		p.accepted()
		limits = append(limits, p.limit)
	}
	if d := cmp.Diff([]int{1, 2, 4, 6, 6}, limits); d != "" {
		t.Errorf("requests in flight after each success (-want +got):\n%s", d)
	}
	p.unavailable(epoch, 0)
	if p.limit != 1 || p.rest(epoch) != 950*time.Millisecond {
		t.Errorf("after trouble %d in flight and %v of rest, want 1 and 950ms", p.limit, p.rest(epoch))
	}
	p.unavailable(epoch, 7*time.Second)
	if p.rest(epoch) != 7*time.Second {
		t.Errorf("rest is %v, want the 7s that were asked for", p.rest(epoch))
	}
	for range 100 {
		p.unavailable(epoch, 0)
	}
	if p.rest(epoch) != 9500*time.Millisecond {
		t.Errorf("rest is %v after 100 failures, want 9.5s", p.rest(epoch))
	}
}

func TestRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		header string
		want   time.Duration
	}{
		"seconds":                {"17", 17 * time.Second},
		"a date":                 {epoch.Add(21 * time.Second).Format(http.TimeFormat), 21 * time.Second},
		"no more than 5 minutes": {"86400", 5 * time.Minute},
		"no less than backoff":   {"0", time.Second},
		"negative":               {"-5", time.Second},
		"the past":               {epoch.Add(-time.Hour).Format(http.TimeFormat), time.Second},
		"nonsense":               {"soon", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			s := newShip(t, o)
			j.appendDue(1)
			f.answers(func(w http.ResponseWriter, _ post) {
				w.Header().Set("Retry-After", c.header)
				w.WriteHeader(http.StatusTooManyRequests)
			})
			if rest := s.step(epoch); rest != c.want {
				t.Errorf("rest is %v, want %v", rest, c.want)
			}
		})
	}
}

// TestNoAnswer is the trouble that has no status.
func TestNoAnswer(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, p post){
		"reset": func(w http.ResponseWriter, _ post) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				c.Close()
			}
		},
		"junk": func(w http.ResponseWriter, _ post) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = c.Write([]byte("SMTP ready\r\n"))
				c.Close()
			}
		},
		"hang": nil,
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			release := make(chan struct{})
			if answer == nil {
				answer = func(http.ResponseWriter, post) { <-release }
				o.Endpoint.RemoteTimeout = 50 * time.Millisecond
			}
			s := newShip(t, o)
			j.appendDue(3)
			f.answers(answer)
			if rest := s.step(epoch); rest != time.Second {
				t.Errorf("rest is %v, want 1s", rest)
			}
			close(release)
			s.client.timeout = time.Minute
			f.says(http.StatusUnprocessableEntity, "had it")
			s.drain(epoch.Add(time.Second))
			if l := s.balance(); l.Unconfirmed.Samples != 3 {
				t.Errorf("ledger is %+v; a refusal after a lost answer is unconfirmed", l)
			}
		})
	}
}

func TestContextEndsRequestsInFlight(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(3)
	ctx, cancel := context.WithCancel(context.Background())
	release := make(chan struct{})
	f.answers(func(http.ResponseWriter, post) { cancel(); <-release })
	if _, err := s.Step(ctx, epoch); err != nil {
		t.Fatal(err)
	}
	close(release)
	f.takes()
	s.drain(epoch)
	posts := f.received()
	if len(posts) != 2 || string(posts[0].body) != string(posts[1].body) {
		t.Errorf("%d requests; want the aborted one, and the same again at once", len(posts))
	}
	if strings.Contains(s.log.String(), "endpoint down") {
		t.Errorf("our own end is taken for the endpoint's:\n%s", s.log)
	}
}

// TestAbortedRequestsAreInDoubt ends a step after the receiver has stored what
// it was sent.
func TestAbortedRequestsAreInDoubt(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(3)
	ctx, cancel := context.WithCancel(context.Background())
	release := make(chan struct{})
	f.answers(func(http.ResponseWriter, post) { cancel(); <-release })
	if _, err := s.Step(ctx, epoch); err != nil {
		t.Fatal(err)
	}
	close(release)
	f.says(http.StatusConflict, "had it")
	s.drain(epoch)
	if l := s.balance(); l.Unconfirmed.Samples != 3 {
		t.Errorf("ledger is %+v, want 3 samples unconfirmed", l)
	}
}

// TestRequestsInFlightAreFewAhead answers all requests of a window but the
// first: what is done is saved as one bit each, so there is an end to it.
func TestRequestsInFlightAreFewAhead(t *testing.T) {
	j, _, o := backlog(t)
	o.Endpoint.Queue.MaxSamplesPerSend = 1
	s := newShip(t, o)
	j.appendDue(2 * maxAhead)
	if _, err := s.advance(epoch, 0); err != nil {
		t.Fatal(err)
	}
	s.board(epoch).inFlight = true
	ahead := 0
	for f := s.board(epoch); f != nil; f = s.board(epoch) {
		s.conclude(f, &s.window.requests[f.request], wal.Totals{Samples: 1}, ReasonRejected, &f.answer, true)
		ahead++
	}
	if ahead != maxAhead-1 {
		t.Errorf("%d requests are answered before the first, want %d", ahead, maxAhead-1)
	}
	if err := s.save(); err != nil {
		t.Error(err)
	}
}

// TestNothingMoreIsSentBeforeAnAnswerIsSaved takes the cursor's file away with
// the first answer.
func TestNothingMoreIsSentBeforeAnAnswerIsSaved(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Queue.MaxSamplesPerSend, o.Endpoint.Queue.MaxShards = 1, 1
	s := newShip(t, o)
	j.appendDue(3)
	f.answers(func(w http.ResponseWriter, p post) {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		p.written(t, w)
	})
	for range 3 {
		if _, err := s.Step(context.Background(), epoch); err == nil {
			t.Error("a step that cannot save an answer says nothing")
		}
	}
	if n := len(f.received()); n != 1 {
		t.Errorf("%d requests were sent, want 1", n)
	}
}

func TestRunAndFlush(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Queue.BatchSendDeadline = 0
	s := newShip(t, o)
	arrived := make(chan struct{}, 10)
	f.answers(func(w http.ResponseWriter, p post) { p.written(t, w); arrived <- struct{}{} })
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { s.Run(context.Background(), stop); close(stopped) }()
	up := j.family("up", 5)
	for i := range 3 {
		now := epoch.Add(time.Duration(i) * time.Second)
		j.append(now, round(up, now, 1)...)
		<-arrived
	}
	close(stop)
	<-stopped
	now := epoch.Add(time.Minute)
	j.append(now, round(up, now, 1)...)
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if l := s.balance(); l.Sent.Samples != 20 {
		t.Errorf("ledger is %+v after the flush, want 20 samples sent", l)
	}

	f.says(http.StatusServiceUnavailable, "")
	now = now.Add(time.Minute)
	j.append(now, round(up, now, 1)...)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Flush(ctx); err == nil {
		t.Error("a flush that its context ended says nothing")
	}
	if l := s.balance(); l.Pending.Samples != 5 {
		t.Errorf("ledger is %+v after the flush, want 5 samples pending", l)
	}
}
