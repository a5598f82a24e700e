package remotewrite

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/receiver"
	"sql2metrics/wal"
)

// answering answers the n-th request, which holds lines; st is the receiver's
// memory.
type answering func(w http.ResponseWriter, st *store, n int, lines []string)

func status(code int) answering {
	return func(w http.ResponseWriter, _ *store, _ int, _ []string) { http.Error(w, "words", code) }
}

// stored keeps the request before it answers as a says.
func stored(a answering) answering {
	return func(w http.ResponseWriter, st *store, n int, lines []string) {
		st.take(lines)
		a(w, st, n, lines)
	}
}

func written(code, samples int) answering {
	return func(w http.ResponseWriter, _ *store, _ int, _ []string) {
		w.Header().Set(headerSamplesWritten, strconv.Itoa(samples))
		w.WriteHeader(code)
	}
}

func to(location string, code int) answering {
	return func(w http.ResponseWriter, _ *store, _ int, _ []string) {
		w.Header().Set("Location", location)
		w.WriteHeader(code)
	}
}

func reset(w http.ResponseWriter, _ *store, _ int, _ []string) { hangUp(w) }

// truncated says how long its body is and ends before that.
func truncated(code int) answering {
	return func(w http.ResponseWriter, _ *store, _ int, lines []string) {
		w.Header().Set("Content-Length", "1000")
		if code/100 == 2 {
			w.Header().Set(headerSamplesWritten, strconv.Itoa(len(lines)))
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte("half"))
		hangUp(w)
	}
}

func huge(code int) answering {
	return func(w http.ResponseWriter, _ *store, _ int, _ []string) {
		http.Error(w, strings.Repeat("words ", 1<<20), code)
	}
}

// TestAnswerTable has a receiver answer its first requests in each way the
// design lists, and take everything from then on by the rules of a store. It
// compares the ledger with what the receiver has.
func TestAnswerTable(t *testing.T) {
	v1, v2 := config.ProtocolV1, config.ProtocolV2
	type ledger struct{ sent, rejected, tooLarge, unconfirmed uint64 }
	all := ledger{sent: 30}
	for name, c := range map[string]struct {
		protocol config.Protocol // and confirmed, if 2.0
		rounds   int             // samples per series; 1
		answers  []answering     // of the first requests; nil: taken
		want     ledger
		held     bool // it is a fault of the configuration
	}{
		"2xx, 2.0, everything written":      {v2, 1, []answering{stored(written(200, 10))}, all, false},
		"2xx, 2.0, less written":            {v2, 1, []answering{written(200, 0)}, ledger{sent: 20, rejected: 10}, false},
		"2xx, 2.0, less written, in doubt":  {v2, 1, []answering{stored(reset), written(200, 0)}, ledger{sent: 20, unconfirmed: 10}, false},
		"2xx, 1.0":                          {v1, 1, []answering{stored(status(204))}, all, false},
		"2xx, truncated":                    {v2, 1, []answering{stored(truncated(200))}, all, false},
		"500":                               {v2, 1, []answering{status(500), status(500)}, all, false},
		"503 after storing, one sample":     {v1, 1, []answering{stored(status(503))}, all, false},
		"503 after storing, several":        {v1, 3, []answering{stored(status(503))}, ledger{sent: 81, unconfirmed: 9}, false},
		"503, truncated":                    {v2, 1, []answering{truncated(503)}, all, false},
		"503, huge":                         {v2, 1, []answering{huge(503)}, all, false},
		"599":                               {v1, 1, []answering{status(599)}, all, false},
		"429":                               {v2, 1, []answering{status(429), status(429)}, all, false},
		"reset":                             {v2, 1, []answering{reset}, all, false},
		"reset after storing, one sample":   {v1, 1, []answering{stored(reset)}, all, false},
		"reset after storing, several":      {v1, 3, []answering{stored(reset)}, ledger{sent: 81, unconfirmed: 9}, false},
		"reset after storing, several, 2.0": {v2, 3, []answering{stored(reset), written(400, 0)}, ledger{sent: 81, unconfirmed: 9}, false},
		"400, 2.0, nothing written":         {v2, 1, []answering{written(400, 0)}, ledger{sent: 20, rejected: 10}, false},
		"400, 2.0, some written":            {v2, 1, []answering{written(400, 4)}, ledger{sent: 24, rejected: 6}, false},
		"400, 2.0, in doubt":                {v2, 1, []answering{status(500), written(400, 4)}, ledger{sent: 24, unconfirmed: 6}, false},
		"400, 2.0, counts of received":      {v2, 1, []answering{written(400, 10), nil, nil, written(400, 1), written(400, 1), written(400, 1)}, ledger{sent: 20, rejected: 10}, false},
		"400 once, 2.0, counts of received": {v2, 1, []answering{written(400, 10)}, all, false},
		"400, all refused":                  {v1, 1, []answering{status(400), nil, nil, status(400), status(400), status(400)}, ledger{sent: 20, rejected: 10}, false},
		"400, all refused, several":         {v1, 3, []answering{status(400), nil, nil, nil, nil, nil, nil, nil, nil, nil, status(400), status(400), status(400)}, ledger{sent: 81, unconfirmed: 9}, false},
		"400, all refused, in doubt":        {v1, 1, []answering{status(503), status(400), nil, nil, status(400), status(400), status(400)}, ledger{sent: 20, unconfirmed: 10}, false},
		"400 once":                          {v1, 1, []answering{status(400)}, all, false},
		"400, huge":                         {v1, 1, []answering{huge(400)}, all, false},
		"409 once":                          {v2, 1, []answering{status(409)}, all, false},
		"410 once":                          {v1, 1, []answering{status(410)}, all, false},
		"422, 2.0 without counts":           {v2, 1, []answering{status(422), nil, nil, status(422), status(422), status(422)}, ledger{sent: 20, rejected: 10}, false},
		"413":                               {v2, 1, []answering{status(413)}, all, false},
		"413, several":                      {v1, 3, []answering{status(413), status(413)}, ledger{sent: 90}, false},
		"413, down to a single sample":      {v1, 1, []answering{status(413), status(413), status(413), status(413), status(413)}, ledger{sent: 29, tooLarge: 1}, false},
		"401":                               {v2, 1, []answering{status(401)}, all, true},
		"403":                               {v1, 1, []answering{status(403)}, all, true},
		"404":                               {v2, 1, []answering{status(404)}, all, true},
		"407":                               {v1, 1, []answering{status(407)}, all, true},
		"415 as configured":                 {v1, 1, []answering{status(415)}, all, true},
		"301":                               {v2, 1, []answering{to("https://elsewhere.example/", 301)}, all, true},
		"302":                               {v1, 1, []answering{to("/login", 302)}, all, true},
		"307":                               {v2, 1, []answering{to("https://elsewhere.example/", 307)}, all, true},
		"redirect without a location":       {v2, 1, []answering{status(308)}, all, true},
	} {
		t.Run(name, func(t *testing.T) {
			j, f, o := backlog(t)
			o.Endpoint.Protocol = c.protocol
			o.Endpoint.Queue.MaxSamplesPerSend = 10 * c.rounds
			o.Endpoint.Queue.MaxShards = 1
			if c.rounds > 1 {
				o.Endpoint.Queue.MaxSamplesPerSend = 9
			}
			s := newShip(t, o)
			s.learned.Confirmed = true
			st := newStore(harmless)
			values := map[string]string{} // one per series and time
			n := 0
			f.answers(func(w http.ResponseWriter, p post) {
				f.mu.Lock()
				defer f.mu.Unlock()
				lines := p.lines(t)
				for _, l := range lines {
					series, rest, _ := strings.Cut(l, "} ")
					v, at, _ := strings.Cut(rest, "@")
					if before, known := values[series+at]; known && before != v {
						t.Errorf("%s at %s was %s and is %s", series, at, before, v)
					}
					values[series+at] = v
				}
				if n++; n <= len(c.answers) && c.answers[n-1] != nil {
					c.answers[n-1](w, st, n, lines)
					return
				}
				if ok := st.take(lines); c.protocol == v2 {
					count := len(lines)
					if !ok {
						count = 0
					}
					w.Header().Set(headerSamplesWritten, strconv.Itoa(count))
				} else if !ok {
					http.Error(w, "out of order", http.StatusBadRequest)
				}
			})
			due := j.family("due", 30)
			for i := range c.rounds {
				at := epoch.Add(time.Duration(i-10) * time.Second)
				j.append(at, round(due, at, float64(i))...)
			}
			now := epoch
			for i := range 2000 {
				rest := s.step(now)
				if i == 0 && c.held != strings.Contains(s.log.String(), "takes nothing as it is configured") {
					t.Errorf("held as a fault of the configuration: want %t:\n%s", c.held, s.log)
				}
				now = now.Add(rest)
				if s.balance().Pending.IsZero() {
					break
				}
			}
			l := s.balance()
			got := ledger{l.Sent.Samples, l.Dropped[ReasonRejected].Samples, l.Dropped[ReasonTooLarge].Samples, l.Unconfirmed.Samples}
			if got != c.want || !l.Pending.IsZero() {
				t.Errorf("ledger is %+v, want %+v", l, c.want)
			}
			if !strings.Contains(name, "written") && !strings.Contains(name, "2.0, in doubt") {
				checkStored(t, st, l) // those say they wrote what they did not
			}
			doubt := strings.Contains(name, "doubt") || strings.Contains(name, "several")
			if got.unconfirmed > 0 && !doubt {
				t.Errorf("%d samples are unconfirmed, and nothing was in doubt", got.unconfirmed)
			}
			if s.log.Len() > 8<<10 {
				t.Errorf("a log of %d bytes", s.log.Len())
			}
		})
	}
}

// TestPrometheusAnswerTable has Prometheus's own receiver in trouble.
func TestPrometheusAnswerTable(t *testing.T) {
	for name, b := range map[string]receiver.Behaviour{
		"503":              receiver.Status(503, 0),
		"429, Retry-After": receiver.Status(429, 7*time.Second),
		"401":              receiver.Status(401, 0),
		"404":              receiver.Status(404, 0),
		"reset":            receiver.Reset,
		"store then reset": receiver.StoreThenReset,
		"hang":             receiver.Slow(time.Hour),
		"store, then hang": receiver.SlowAnswer(time.Hour),
	} {
		for _, rounds := range []int{1, 4} {
			t.Run(name+", samples per series "+strconv.Itoa(rounds), func(t *testing.T) {
				forBothProtocols(t, func(t *testing.T, p config.Protocol) {
					r := receiver.Start(t, receiver.Options{})
					s, now, want := shipTo(t, r, p, rounds)
					if strings.Contains(name, "hang") {
						s.client.timeout = 50 * time.Millisecond
					}
					r.Behave(b)
					for r.Attempts() == 0 { // one that hangs may end before it arrives
						now = now.Add(s.step(now))
					}
					r.Refuse() // so that it is not stored from here on
					s.client.timeout = time.Minute
					r.Behave(receiver.Up)
					r.Listen(t)
					for !s.balance().Pending.IsZero() {
						now = now.Add(s.step(now))
					}
					if d := cmp.Diff(want, r.Samples(t, `{__name__="due"}`)); d != "" {
						t.Errorf("stored samples (-want +got):\n%s", d)
					}
					l := s.balance()
					inDoubt := rounds > 1 && strings.HasPrefix(name, "store")
					if l.Sent.Add(l.Unconfirmed).Samples != uint64(70*rounds) || !l.Unconfirmed.IsZero() && !inDoubt {
						t.Errorf("ledger is %+v, want all sent, or unconfirmed if it was in doubt", l)
					}
				})
			})
		}
	}
}

// TestTLSErrors has no TLS at the other end, and one of an unknown authority.
func TestTLSErrors(t *testing.T) {
	f := newFake(t)
	secure := httptest.NewUnstartedServer(f)
	secure.Config.ErrorLog = discardLog()
	secure.StartTLS()
	defer secure.Close()
	plain := strings.Replace(f.URL, "http://", "https://", 1)
	for name, address := range map[string]string{"no TLS": plain, "unknown authority": secure.URL} {
		t.Run(name, func(t *testing.T) {
			j := openJournal(t, t.TempDir(), wal.Options{})
			s := newShip(t, Options{Endpoint: endpoint(t, address), Log: j.Log})
			j.appendDue(3)
			if rest := s.step(epoch); rest != time.Second {
				t.Errorf("rest is %v, want 1s", rest)
			}
			if l := s.balance(); l.Pending.Samples != 3 || !strings.Contains(s.log.String(), "endpoint down") {
				t.Errorf("ledger is %+v, want all held:\n%s", l, s.log)
			}
		})
	}
}
