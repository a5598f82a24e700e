package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// TestChaos kills the agent at random times while its receiver is in random
// moods, refuses a series or large requests among them, and the protocol changes
// between lives. What the log acknowledged is at the receiver in the end, or of
// the series it refuses and counted so, each series in order, one value per series and
// time, none invented; and every page scraped on the way accounts for every
// sample. E2E_SEED repeats a run's choices, SOAK=1 makes it long.
func TestChaos(t *testing.T) {
	t.Parallel()
	kills := 10
	if soak() {
		kills = 50
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("E2E_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("E2E_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))

	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 100)
	s.trade(t)
	storage := filepath.Join(t.TempDir(), "data")
	watch := func(protocol receiver.Message) setup {
		endpoint := r.URL()
		if protocol != "" {
			endpoint += "\n    protobuf_message: " + string(protocol)
		}
		return setup{config: s.config(200*time.Millisecond, endpoint), storage: storage}
	}

	// A first life in peace makes the folder that the ledger follows.
	a := start(t, watch(""))
	l := follow(t, storage)
	waitForSamples(t, a, 100)
	a.kill()
	b := books{receiver: r}
	for i := range kills {
		life := newLife(random)
		t.Logf("life %d: %s", i, life)
		a := launch(t, watch(life.protocol))
		if !life.stillborn {
			a.waitReady(t)
		}
		for _, m := range life.moods {
			m.enter(t, r)
			time.Sleep(m.lasts)
			if !life.stillborn {
				b.check(t, a)
			}
		}
		a.kill()
	}

	calm.enter(t, r)
	a = start(t, watch(""))
	waitForSamples(t, a, 100)
	eventually(t, "nothing to be pending", func() error {
		if n := b.check(t, a)["pending"]; n > 0 {
			return fmt.Errorf("%v samples are", n)
		}
		return nil
	})
	a.stop(t)
	if err := a.hasLogged("endpoint stopped, everything is shipped"); err != nil {
		t.Error(err)
	}

	l.close(t)
	b.compare(t, l)
	repeated := l.checkDeliveries(t, r.Requests())
	t.Logf("%d kills, %d pages checked; %d samples in %d series, %d deliveries of one that was there already, %v refused, %v of them unconfirmed",
		kills, b.pages, l.count, len(l.samples), repeated, b.last["rejected"]+b.last["unconfirmed"], b.last["unconfirmed"])
}

// life is one run of the agent, from its start to its SIGKILL.
type life struct {
	protocol  receiver.Message // empty: what the agent has learned
	stillborn bool             // killed without having been waited for
	moods     []mood           // of the receiver, one after the other
}

func newLife(random *rand.Rand) life {
	l := life{
		protocol:  []receiver.Message{"", receiver.V1, receiver.V2}[random.IntN(3)],
		stillborn: random.IntN(4) == 0,
	}
	all := moods(random)
	for range 1 + random.IntN(4) {
		m := all[random.IntN(len(all))]
		m.lasts = time.Duration(random.Int64N(int64(600 * time.Millisecond)))
		l.moods = append(l.moods, m)
	}
	return l
}

// String says what happens in a life.
func (l life) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "protocol %q, stillborn %t; the receiver is", l.protocol, l.stillborn)
	for _, m := range l.moods {
		fmt.Fprintf(&b, " %s for %s,", m.name, m.lasts.Round(time.Millisecond))
	}
	return b.String() + " and the agent is killed"
}

// mood is what a receiver does with requests for a while.
type mood struct {
	name   string
	answer receiver.Behaviour // nil: connections are refused
	lasts  time.Duration
}

var calm = mood{name: "up", answer: receiver.Up}

func moods(random *rand.Rand) []mood {
	return []mood{
		calm,
		calm,
		{name: "down"},
		{name: "slow", answer: receiver.Slow(time.Duration(random.Int64N(int64(200 * time.Millisecond))))},
		{name: "slow to answer", answer: receiver.SlowAnswer(time.Duration(random.Int64N(int64(200 * time.Millisecond))))},
		{name: "429", answer: tooMany("")},
		{name: "429, Retry-After 0", answer: tooMany("0")},
		{name: "429, Retry-After 1", answer: tooMany("1")},
		{name: "500", answer: receiver.Status(http.StatusInternalServerError, 0)},
		{name: "503", answer: receiver.Status(http.StatusServiceUnavailable, 0)},
		{name: "reset", answer: receiver.Reset},
		{name: "reset after storing", answer: receiver.StoreThenReset},
		{name: "500 after storing", answer: storeThenFail},
		{name: "strict", answer: receiver.Refusing(strict)},
		{name: "strict", answer: receiver.Refusing(strict)},
		{name: "for small requests", answer: receiver.Refusing(small)},
	}
}

// guilty is in the labels of the one series that a strict receiver refuses, and
// every request with it, as Prometheus does under 1.0.
const guilty = `id="o0007"`

func strict(all []receiver.Series) int {
	for _, s := range all {
		if strings.Contains(s.Labels, guilty) {
			return http.StatusBadRequest
		}
	}
	return 0
}

func small(all []receiver.Series) int {
	if len(all) > 9 {
		return http.StatusRequestEntityTooLarge
	}
	return 0
}

func (m mood) enter(t *testing.T, r *receiver.Receiver) {
	t.Helper()
	if m.answer == nil {
		r.Refuse()
		return
	}
	r.Behave(m.answer)
	r.Listen(t)
}

// tooMany answers 429 with a Retry-After of so many seconds, or without one.
func tooMany(retryAfter string) receiver.Behaviour {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		http.Error(w, "the test wants fewer", http.StatusTooManyRequests)
	}
}

// storeThenFail stores the request and says that it could not.
func storeThenFail(w http.ResponseWriter, r *http.Request, store http.Handler) {
	store.ServeHTTP(httptest.NewRecorder(), r)
	http.Error(w, "the test wants it to look lost", http.StatusInternalServerError)
}

// books are what the pages of one endpoint said so far.
type books struct {
	receiver *receiver.Receiver
	last     map[string]float64
	pages    int
}

// check scrapes a page and checks that it accounts for every sample appended,
// that no account went back, not even over a kill, that none was given up but
// by a refusal, and that the receiver has what is said to be sent. It returns
// the accounts.
func (b *books) check(t *testing.T, a *agent) map[string]float64 {
	t.Helper()
	now := balance(t, a.metrics(t), "endpoint0")
	if n := now["dropped"] - now["rejected"]; n > 0 {
		t.Errorf("page %d: %v samples were given up", b.pages, n)
	}
	for _, name := range []string{"appended", "sent", "unconfirmed", "rejected"} {
		if now[name] < b.last[name] {
			t.Errorf("page %d: %s went from %v to %v", b.pages, name, b.last[name], now[name])
		}
	}
	received := 0
	for _, samples := range b.receiver.Samples(t, everything) {
		received += len(samples)
	}
	if float64(received) < now["sent"] {
		t.Errorf("page %d: %v samples sent, the receiver has %d", b.pages, now["sent"], received)
	}
	b.last = now
	b.pages++
	return now
}

// compare checks that the receiver has every sample of every series but the
// guilty one, bit for bit, of that one none that was not appended, and that as
// many of it as are missing are counted as rejected or unconfirmed.
func (b *books) compare(t *testing.T, l *ledger) {
	t.Helper()
	l.mustHave(t, guilty)
	received := b.receiver.Samples(t, everything)
	innocent := &ledger{samples: maps.Clone(l.samples)}
	missing := 0
	for series, samples := range l.samples {
		if !strings.Contains(series, guilty) {
			continue
		}
		for _, got := range received[series] {
			if !slices.ContainsFunc(samples, got.Equal) {
				t.Errorf("series %s: %v was received and never appended", series, got)
			}
		}
		missing += len(samples) - len(received[series])
		delete(innocent.samples, series)
		delete(received, series)
	}
	innocent.compare(t, received)
	if given := b.last["rejected"] + b.last["unconfirmed"]; float64(missing) > given {
		t.Errorf("%d samples of the guilty series are missing, and %v are counted as rejected or unconfirmed", missing, given)
	}
}
