package remotewrite

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/wal"
)

func TestJudge(t *testing.T) {
	v1, v2 := config.ProtocolV1, config.ProtocolV2
	for name, c := range map[string]struct {
		answer    answer
		protocol  config.Protocol
		forced    bool
		confirmed bool
		trusted   bool
		want      verdict
	}{
		"2xx of 1.0":                           {answer{status: 204}, v1, false, false, false, accepted},
		"2xx of 2.0 with counts":               {answer{status: 200, counted: true}, v2, false, false, false, accepted},
		"2xx of 2.0 without counts":            {answer{status: 200}, v2, false, false, false, reworded},
		"2xx of 2.0 without counts, confirmed": {answer{status: 200}, v2, false, true, false, reworded},
		"2xx of 2.0 without counts, trusted":   {answer{status: 200}, v2, false, true, true, accepted},
		"2xx of 2.0 without counts, forced":    {answer{status: 200}, v2, true, false, false, accepted},
		"415 to 2.0":                           {answer{status: 415}, v2, false, true, false, reworded},
		"415 to 1.0":                           {answer{status: 415}, v1, false, false, false, reworded},
		"415, forced":                          {answer{status: 415}, v2, true, false, false, misconfigured},
		"400 to 2.0":                           {answer{status: 400}, v2, false, false, false, reworded},
		"400 to 2.0, confirmed":                {answer{status: 400}, v2, false, true, false, refused},
		"400 to 2.0, forced":                   {answer{status: 400}, v2, true, false, false, refused},
		"400 to 1.0":                           {answer{status: 400}, v1, false, false, false, refused},
		"409":                                  {answer{status: 409}, v2, false, false, false, refused},
		"422":                                  {answer{status: 422}, v1, false, false, false, refused},
		"413":                                  {answer{status: 413}, v1, false, false, false, tooLarge},
		"429":                                  {answer{status: 429}, v1, false, false, false, unavailable},
		"500":                                  {answer{status: 500}, v2, false, false, false, unavailable},
		"503":                                  {answer{status: 503}, v1, false, false, false, unavailable},
		"599":                                  {answer{status: 599}, v1, false, false, false, unavailable},
		"no status":                            {answer{err: http.ErrHandlerTimeout}, v1, false, false, false, unavailable},
		"301":                                  {answer{status: 301}, v1, false, false, false, misconfigured},
		"401":                                  {answer{status: 401}, v1, false, false, false, misconfigured},
		"403":                                  {answer{status: 403}, v2, false, false, false, misconfigured},
		"404":                                  {answer{status: 404}, v2, false, false, false, misconfigured},
		"407":                                  {answer{status: 407}, v2, false, false, false, misconfigured},
		"200 with a page":                      {answer{status: 200, page: true}, v1, false, false, false, misconfigured},
		"200 with a page, 2.0 confirmed":       {answer{status: 200, page: true}, v2, false, true, false, misconfigured},
		"200 with a page, 2.0 not confirmed":   {answer{status: 200, page: true}, v2, false, false, false, misconfigured},
		"503 with a page":                      {answer{status: 503, page: true}, v2, false, true, false, unavailable},
		"700":                                  {answer{status: 700}, v2, false, false, false, misconfigured},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.answer.judge(c.protocol, !c.forced, c.confirmed, c.trusted); got != c.want {
				t.Errorf("verdict %d, want %d", got, c.want)
			}
		})
	}
}

func TestMisconfiguredHoldsTheData(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, p post)
		advice string
	}{
		"401": {func(w http.ResponseWriter, _ post) { w.WriteHeader(401) }, "check basic_auth"},
		"404": {func(w http.ResponseWriter, _ post) { w.WriteHeader(404) }, "check the path"},
		"302": {func(w http.ResponseWriter, _ post) {
			w.Header().Set("Location", "https://sso.example/login?token=geheim")
			w.WriteHeader(302)
		}, "302 Found to https://sso.example"},
		"a login page": {func(w http.ResponseWriter, _ post) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte("<html>log in"))
		}, "a login page or a captive portal"},
		"both protocols": {func(w http.ResponseWriter, _ post) { w.WriteHeader(415) }, "neither protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			s := newShip(t, o)
			j.appendDue(7)
			f.answers(c.answer)
			now := epoch
			for range 4 {
				rest := s.step(now)
				if rest != time.Minute {
					t.Fatalf("rest is %v, want max_backoff", rest)
				}
				now = now.Add(rest)
			}
			out := s.log.String()
			if n := strings.Count(out, "takes nothing as it is configured"); n != 1 || !strings.Contains(out, c.advice) {
				t.Errorf("the log says it %d times, and should once with %q:\n%s", n, c.advice, out)
			}
			if strings.Contains(out, "geheim") {
				t.Errorf("the log has a secret:\n%s", out)
			}
			if l := s.balance(); l.Pending.Samples != 7 {
				t.Errorf("ledger is %+v, want 7 samples pending", l)
			}
			f.takes()
			s.drain(now)
			if l := s.balance(); l.Sent.Samples != 7 {
				t.Errorf("ledger is %+v, want 7 samples sent", l)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	long := strings.Repeat("words ", 1000)
	for name, c := range map[string]struct {
		answers func(f *fake)
		doubt   bool
		want    Ledger
	}{
		"for good": {
			answers: func(f *fake) { f.says(422, long) },
			want:    Ledger{Dropped: map[Reason]wal.Totals{ReasonRejected: {Samples: 6}}},
		},
		"after an attempt that may have stored it": {
			answers: func(f *fake) { f.says(422, long) },
			doubt:   true,
			want:    Ledger{Unconfirmed: wal.Totals{Samples: 6}},
		},
		"in part, with an error": {
			answers: func(f *fake) {
				f.answers(func(w http.ResponseWriter, _ post) {
					w.Header().Set(headerSamplesWritten, "1")
					http.Error(w, long, 400)
				})
			},
			want: Ledger{Sent: wal.Totals{Samples: 2}, Dropped: map[Reason]wal.Totals{ReasonRejected: {Samples: 4}}},
		},
		"in part, without": {
			answers: func(f *fake) {
				f.answers(func(w http.ResponseWriter, _ post) { w.Header().Set(headerSamplesWritten, "2") })
			},
			doubt: true,
			want:  Ledger{Sent: wal.Totals{Samples: 4}, Unconfirmed: wal.Totals{Samples: 2}},
		},
		"counts beyond what was sent": {
			answers: func(f *fake) {
				f.answers(func(w http.ResponseWriter, _ post) { w.Header().Set(headerSamplesWritten, "99") })
			},
			want: Ledger{Sent: wal.Totals{Samples: 6}},
		},
		"counts that are none": {
			answers: func(f *fake) {
				f.answers(func(w http.ResponseWriter, _ post) { w.Header().Set(headerSamplesWritten, "three") })
			},
			want: Ledger{Sent: wal.Totals{Samples: 6}},
		},
		"counts of other kinds": {
			answers: func(f *fake) {
				f.answers(func(w http.ResponseWriter, _ post) { w.Header().Set(headerHistogramsWritten, "0") })
			},
			want: Ledger{Dropped: map[Reason]wal.Totals{ReasonRejected: {Samples: 6}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Queue.MaxSamplesPerSend = 3
			s := newShip(t, o)
			s.learned.Confirmed = true
			j.appendDue(6)
			now := epoch
			if c.doubt {
				// Two in flight, so that both lose their answer.
				s.pace.limit = 2
				f.says(500, "")
				now = now.Add(s.step(now))
			}
			c.answers(f)
			s.drain(now)
			got := s.balance()
			for _, r := range reasons {
				if c.want.Dropped[r] != got.Dropped[r] {
					t.Errorf("%s: %+v, want %+v", r, got.Dropped[r], c.want.Dropped[r])
				}
			}
			if got.Sent != c.want.Sent || got.Unconfirmed != c.want.Unconfirmed || !got.Pending.IsZero() {
				t.Errorf("ledger is %+v, want %+v", got, c.want)
			}
			lost := !c.want.Unconfirmed.IsZero() || len(c.want.Dropped) > 0
			if n := strings.Count(s.log.String(), "refused samples"); (n == 1) != lost {
				t.Errorf("the log says %d times that samples were refused:\n%s", n, s.log)
			}
			if s.log.Len() > 4<<10 {
				t.Errorf("the log has %d bytes for one state", s.log.Len())
			}
			f.takes()
			later := now.Add(takesAll + time.Minute)
			j.append(now, round(j.family("due", 6), now, 2)...)
			s.drain(later)
			if again := strings.Contains(s.log.String(), "takes everything again"); again != lost {
				t.Errorf("the log says %v that everything is taken again:\n%s", again, s.log)
			}
		})
	}
}

// TestPoisonInEveryOtherWindow is one state of the receiver, not two in turn.
func TestPoisonInEveryOtherWindow(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV1
	s := newShip(t, o)
	newStore(poisonIs("5")).serve(f)
	due := j.family("due", 10)
	for i := range 20 {
		now := epoch.Add(time.Duration(i) * time.Minute)
		j.append(now, round(due[:10-5*(i%2)], now, 1)...)
		s.drain(now.Add(30 * time.Second))
	}
	out := s.log.String()
	if strings.Count(out, "refused samples for good") != 1 || strings.Contains(out, "takes everything again") {
		t.Errorf("the log is\n%s", out)
	}
}

// TestMisconfiguredOtherwise has an endpoint go from one fault to another.
func TestMisconfiguredOtherwise(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(1)
	now := epoch
	for _, status := range []int{401, 401, 302, 302, 503, 502, 401} {
		f.says(status, "no")
		now = now.Add(s.step(now))
	}
	out := s.log.String()
	for line, want := range map[string]int{"401 Unauthorized": 2, "302 Found": 1, "endpoint down": 1} {
		if n := strings.Count(out, line); n != want {
			t.Errorf("the log says %q %d times, want %d:\n%s", line, n, want, out)
		}
	}
}

// speaks makes f a receiver that takes one protocol and answers the other as
// told.
func (f *fake) speaks(version string, other func(w http.ResponseWriter)) {
	f.answers(func(w http.ResponseWriter, p post) {
		switch {
		case p.header.Get("X-Prometheus-Remote-Write-Version") != version:
			other(w)
		case version == "2.0.0":
			p.written(f.tb, w)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

func TestProtocol(t *testing.T) {
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		configured config.Protocol
		speaks     string
		other      func(http.ResponseWriter)
		confirmed  bool            // 2.0 was, in an earlier life
		learned    config.Protocol // in an earlier life
		want       []string        // versions of the requests
		refused    bool            // so there are probes after them
		sent       uint64
		spoken     string
	}{
		"2.0":                           {speaks: "2.0.0", other: status(415), want: []string{"2.0.0", "2.0.0"}, sent: 6, spoken: "2.0"},
		"1.0 that says 415":             {speaks: "0.1.0", other: status(415), want: []string{"2.0.0", "0.1.0", "0.1.0"}, sent: 6, spoken: "1.0"},
		"1.0 that says 400":             {speaks: "0.1.0", other: status(400), want: []string{"2.0.0", "0.1.0", "0.1.0"}, sent: 6, spoken: "1.0"},
		"1.0 that takes 2.0 for empty":  {speaks: "0.1.0", other: status(204), want: []string{"2.0.0", "0.1.0", "0.1.0"}, sent: 6, spoken: "1.0"},
		"2.0 after 1.0":                 {learned: config.ProtocolV1, speaks: "2.0.0", other: status(415), want: []string{"0.1.0", "2.0.0", "2.0.0"}, sent: 6, spoken: "2.0"},
		"1.0 as configured":             {configured: config.ProtocolV1, speaks: "0.1.0", other: status(415), want: []string{"0.1.0", "0.1.0"}, sent: 6, spoken: "1.0"},
		"2.0 as configured, no counts":  {configured: config.ProtocolV2, speaks: "0.1.0", other: status(204), want: []string{"2.0.0", "2.0.0"}, sent: 6, spoken: "2.0"},
		"2.0 seen before, no counts":    {confirmed: true, speaks: "0.1.0", other: status(204), want: []string{"2.0.0", "0.1.0", "0.1.0"}, sent: 6, spoken: "1.0"},
		"2.0 seen before, 400 is final": {confirmed: true, speaks: "0.1.0", other: status(400), want: []string{"2.0.0", "2.0.0"}, refused: true, spoken: "2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol = c.configured
			o.Endpoint.Queue.MaxSamplesPerSend = 3
			s := newShip(t, o)
			s.learned.Confirmed, s.learned.Protocol, s.learned.At = c.confirmed, c.learned, epoch.UnixMilli()
			j.appendDue(6)
			f.speaks(c.speaks, c.other)
			s.drain(epoch)
			var got []string
			for _, p := range f.received() {
				got = append(got, p.header.Get("X-Prometheus-Remote-Write-Version"))
			}
			if c.refused && len(got) == 2+2*maxProbes {
				got = got[:2]
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("versions (-want +got):\n%s", d)
			}
			l := s.balance()
			if l.Sent.Samples != c.sent || l.Protocol != c.spoken || !l.Pending.IsZero() {
				t.Errorf("ledger is %+v, want %d samples sent by %s", l, c.sent, c.spoken)
			}

			// The next life begins with what this one has learned.
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = newShip(t, o)
			j.append(epoch, round(j.family("due", 1), epoch, 2)...)
			s.drain(epoch.Add(time.Minute))
			if posts := f.received(); len(posts) == 0 || posts[0].header.Get("X-Prometheus-Remote-Write-Version") != c.want[len(c.want)-1] {
				t.Errorf("after a restart, %d requests, want the first in the protocol that was found", len(posts))
			}
			if n := strings.Count(s.log.String(), "without saying what it wrote"); n > 1 {
				t.Errorf("the log warns %d times:\n%s", n, s.log)
			}
		})
	}
}

// TestLearnedBelongsToTheAddress moves an endpoint to another receiver under
// its name.
func TestLearnedBelongsToTheAddress(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(1)
	s.drain(epoch) // 2.0 is confirmed
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := newFake(t)
	other.speaks("0.1.0", func(w http.ResponseWriter) { w.WriteHeader(204) })
	o.Endpoint.URL = endpoint(t, other.URL).URL
	s = newShip(t, o)
	j.append(epoch, round(j.family("due", 1), epoch, 2)...)
	s.drain(epoch.Add(time.Minute))
	if n := len(other.received()); n != 2 {
		t.Errorf("%d requests, want one in 2.0 and one in 1.0", n)
	}
	if n := len(f.received()); n != 1 {
		t.Errorf("%d requests to the old address, want one", n)
	}
	if l := s.balance(); l.Sent.Samples != 2 {
		t.Errorf("ledger is %+v, want 2 samples sent over both", l)
	}
}

// TestUncountedIsSaidAgain warns once for each time that the endpoint comes up.
func TestUncountedIsSaidAgain(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.Protocol = config.ProtocolV2
	s := newShip(t, o)
	now := epoch
	ship := func(samples float64, status int) {
		f.answers(func(w http.ResponseWriter, _ post) { w.WriteHeader(status) })
		now = now.Add(10 * time.Minute)
		j.append(now, round(j.family("due", 3), now, samples)...)
		now = now.Add(time.Minute)
		s.drain(now)
	}
	for i, status := range []int{200, 200, 503, 200, 200, 404, 200} {
		ship(float64(i), status)
	}
	if n := strings.Count(s.log.String(), "without saying what it wrote"); n != 3 {
		t.Errorf("the log warns %d times, want 3:\n%s", n, s.log)
	}
	if l := s.balance(); l.Sent.Samples != 21 {
		t.Errorf("ledger is %+v, want 21 samples sent", l)
	}
}

// TestCountsCease has a receiver that has said what it wrote of 2.0 cease to:
// one of 1.0 that does not look at what it is sent, or one of 2.0 behind
// something that strips its headers. Nothing counts as sent that is not there.
func TestCountsCease(t *testing.T) {
	for name, c := range map[string]struct {
		takes1, takes2 bool // stores what is in that protocol
		first          int  // requests of the first window without counts, one of which is in the air at a time
		spoken         string
	}{
		"1.0 that takes 2.0 for empty": {takes1: true, first: 1 + 4, spoken: "1.0"},
		"2.0 alone, uncounted":         {takes2: true, first: 2 + 4, spoken: "2.0"},
		"both, uncounted":              {takes1: true, takes2: true, first: 1 + 4, spoken: "1.0"},
	} {
		for _, shards := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s, shards %d", name, shards), func(t *testing.T) {
				j, f, o := backlog(t)
				o.Endpoint.Queue.MaxShards, o.Endpoint.Queue.MaxSamplesPerSend = shards, 3
				s := newShip(t, o)
				st, counts := newStore(harmless), true
				f.answers(func(w http.ResponseWriter, p post) {
					f.mu.Lock()
					defer f.mu.Unlock()
					is2 := p.header.Get("X-Prometheus-Remote-Write-Version") == "2.0.0"
					switch {
					case counts && is2:
						st.take(p.lines(t))
						p.written(t, w)
					case !is2 && !c.takes1:
						w.WriteHeader(http.StatusUnsupportedMediaType)
					case is2 && c.takes2, !is2:
						st.take(p.lines(t))
					}
				})
				due, now := j.family("due", 12), epoch
				window := func() int {
					now = now.Add(time.Minute)
					j.append(now, round(due, now, 1)...)
					s.drain(now.Add(30 * time.Second))
					return len(f.received())
				}
				for range 3 {
					window()
				}
				f.mu.Lock()
				counts = false
				f.mu.Unlock()
				if n := window(); shards == 1 && n != c.first {
					t.Errorf("%d requests for the first window without counts, want %d", n, c.first)
				}
				for range 3 {
					if n := window(); n != 4 {
						t.Errorf("%d requests for a window, want 4", n)
					}
				}
				l := s.balance()
				if l.Sent.Samples != 7*12 || len(st.stored) != 7*12 || l.Protocol != c.spoken {
					t.Errorf("the receiver has %d samples, ledger is %+v, want all 84 sent by %s", len(st.stored), l, c.spoken)
				}
			})
		}
	}
}
