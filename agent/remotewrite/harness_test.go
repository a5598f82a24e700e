package remotewrite

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// epoch is when the tests take place.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// journal is a log that a test appends to.
type journal struct {
	*wal.Log
	tb testing.TB
}

func openJournal(tb testing.TB, path string, o wal.Options) journal {
	tb.Helper()
	o.Path, o.MinFree = path, -1 // however full the machine
	if o.Sync == wal.SyncInterval {
		o.Sync = wal.SyncNever // append makes it readable
	}
	l, err := wal.Open(context.Background(), o, epoch)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return journal{l, tb}
}

// append appends one round and makes it readable.
func (j journal) append(now time.Time, samples ...wal.Sample) {
	j.tb.Helper()
	j.appendRound(now, wal.Round{Samples: samples})
}

func (j journal) appendRound(now time.Time, r wal.Round) {
	j.tb.Helper()
	a, err := j.Append(&r, now)
	if err != nil {
		j.tb.Fatal(err)
	}
	if !a.Refused.IsZero() {
		j.tb.Fatalf("the log refused %+v", a.Refused)
	}
	if err := j.Sync(now); err != nil {
		j.tb.Fatal(err)
	}
}

func (j journal) series(nameAndLabels ...string) *wal.Series {
	return j.Series(labels.FromStrings(append([]string{"__name__"}, nameAndLabels...)...), wal.Metadata{})
}

// family returns n series of one name.
func (j journal) family(name string, n int) []*wal.Series {
	all := make([]*wal.Series, n)
	for i := range all {
		all[i] = j.series(name, "i", strconv.Itoa(i))
	}
	return all
}

// round is one sample of each series at t.
func round(series []*wal.Series, t time.Time, v float64) []wal.Sample {
	out := make([]wal.Sample, len(series))
	for i, s := range series {
		out[i] = wal.Sample{Series: s, T: t.UnixMilli(), V: v}
	}
	return out
}

// post is one request as a receiver saw it.
type post struct {
	header http.Header
	body   []byte
}

// lines lists the samples of a request as "labels value@time", in its order.
func (p post) lines(tb testing.TB) []string {
	tb.Helper()
	raw, err := snappy.Decode(nil, p.body)
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	line := func(lset labels.Labels, v float64, t int64) {
		out = append(out, fmt.Sprintf("%s %v@%d", lset, v, t))
	}
	if p.header.Get("Content-Type") == "application/x-protobuf" {
		var m prompb.WriteRequest
		if err := m.Unmarshal(raw); err != nil {
			tb.Fatal(err)
		}
		b := labels.NewScratchBuilder(0)
		for _, ts := range m.Timeseries {
			for _, s := range ts.Samples {
				line(ts.ToLabels(&b, nil), s.Value, s.Timestamp)
			}
		}
		return out
	}
	var m writev2.Request
	if err := m.Unmarshal(raw); err != nil {
		tb.Fatal(err)
	}
	b := labels.NewScratchBuilder(0)
	for _, ts := range m.Timeseries {
		lset, err := ts.ToLabels(&b, m.Symbols)
		if err != nil {
			tb.Fatal(err)
		}
		for _, s := range ts.Samples {
			line(lset, s.Value, s.Timestamp)
		}
	}
	return out
}

// written says in the answer that all samples of p were stored.
func (p post) written(tb testing.TB, w http.ResponseWriter) {
	w.Header().Set(headerSamplesWritten, strconv.Itoa(len(p.lines(tb))))
}

// fake is a receiver that answers as it is told and keeps what it was sent.
type fake struct {
	*httptest.Server
	tb testing.TB

	mu     sync.Mutex
	answer func(w http.ResponseWriter, p post)
	posts  []post
}

// newFake returns a receiver of 2.0 that takes everything.
func newFake(tb testing.TB) *fake {
	f := &fake{tb: tb}
	f.takes()
	f.Server = httptest.NewServer(f)
	tb.Cleanup(f.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p := post{header: r.Header, body: body}
	f.mu.Lock()
	f.posts = append(f.posts, p)
	answer := f.answer
	f.mu.Unlock()
	answer(w, p)
}

// answers sets what every request is answered with from now on.
func (f *fake) answers(answer func(w http.ResponseWriter, p post)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fake) takes() {
	f.answers(func(w http.ResponseWriter, p post) { p.written(f.tb, w) })
}

func (f *fake) says(status int, words string) {
	f.answers(func(w http.ResponseWriter, _ post) { http.Error(w, words, status) })
}

// received returns the requests since the last call.
func (f *fake) received() []post {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.posts
	f.posts = nil
	return p
}

// lines are the samples of all requests since the last call.
func (f *fake) lines() []string {
	var out []string
	for _, p := range f.received() {
		out = append(out, p.lines(f.tb)...)
	}
	return out
}

// endpoint is the configuration of a test's endpoint at address.
func endpoint(tb testing.TB, address string) config.RemoteWrite {
	tb.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tb.Fatal(err)
	}
	return config.RemoteWrite{
		URL:           u,
		Name:          "test",
		RemoteTimeout: time.Minute, // where it has to end a request, the test says so
		SendExemplars: true, SendNativeHistograms: true,
		Queue: config.Queue{
			MaxShards:           4,
			MaxSamplesPerSecond: 1e9, // not a matter of these tests
			MaxSamplesPerSend:   2000,
			BatchSendDeadline:   5 * time.Second,
			MinBackoff:          time.Second,
			MaxBackoff:          time.Minute,
		},
	}
}

// ship is a shipper under test and what it logs.
type ship struct {
	*Shipper
	tb  testing.TB
	log *bytes.Buffer
}

func newShip(tb testing.TB, o Options) ship {
	tb.Helper()
	var out bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&out, nil))
	if o.UserAgent == "" {
		o.UserAgent = "sql2metrics/test"
	}
	if o.Random == nil {
		o.Random = func() float64 { return 0 }
	}
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return ship{s, tb, &out}
}

// step makes one step, checks the ledger, and returns how long to rest.
func (s ship) step(now time.Time) time.Duration {
	s.tb.Helper()
	rest, err := s.Step(context.Background(), now)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.balance()
	return rest
}

// drain steps until there is nothing left to do at that time, or a moment
// later while it finds out why something was refused.
func (s ship) drain(now time.Time) {
	s.tb.Helper()
	for range 10000 {
		rest := s.step(now)
		if rest > s.pace.min/20 || rest > 0 && !s.pace.waiting() {
			return
		}
		now = now.Add(rest)
	}
	s.tb.Fatal("there is always more to do")
}

// balance checks the equation that every ledger holds.
func (s ship) balance() Ledger {
	s.tb.Helper()
	l := s.Ledger()
	sum := l.Sent.Add(l.Unconfirmed).Add(l.Pending)
	for _, n := range l.Dropped {
		sum = sum.Add(n)
	}
	if sum != l.Appended {
		s.tb.Fatalf("the ledger does not add up: appended %+v, but %+v in %+v", l.Appended, sum, l)
	}
	return l
}

// discardLog is for servers that complain about their clients.
func discardLog() *log.Logger { return slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) }
