package agent

import (
	"cmp"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/receiver"
)

// TestReloadsUnderLoad reloads a hundred times, with SOAK=1 a thousand, with
// changes of every kind, while the page is scraped and a receiver takes it all.
// Each page is that of the configuration before or of the one after; in the
// receiver a series ends with one stale marker each time that a reload takes it
// away, and never else; its values do not change but for those that are to, and
// these never go back to those of a configuration before. At the end nothing of
// those before is left.
func TestReloadsUnderLoad(t *testing.T) {
	reloads := 100
	if os.Getenv("SOAK") != "" {
		reloads = 1000
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SOAK_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("SOAK_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))

	r := newReloadable(t)
	c := newChoices()
	c.port = muteServer(t)
	write := func(text string) { writeConfig(t, r.file, text) }
	write(c.config(r.receiver.URL()))
	r.start()
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, page := get(t, r.page+"/metrics")
		if c.shown(page) == c.page() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the first values never come (-want +got):\n%s", gocmp.Diff(c.page(), c.shown(page)))
		}
	}

	r.scrape()
	pages := []string{c.page()} // of all configurations, in turn
	gone := map[string]int{}    // stale markers by series
	var early resources
	for i := range reloads {
		before := c
		c.change(rng)
		measured := i == reloads/5 || i == reloads-1
		if measured { // with as many sources each time
			c.other, c.dead, c.mute = false, false, false
		}
		if !measured && rng.IntN(10) == 0 {
			c = before
			write(c.config(r.receiver.URL()) + "\nnonsense: {")
			if status, body := r.reload(); status != http.StatusInternalServerError {
				t.Fatalf("a broken file is taken: %d: %s", status, body)
			}
		} else {
			write(c.config(r.receiver.URL()))
			if status, body := r.reload(); status != http.StatusOK {
				t.Fatalf("reload %d answers %d: %s", i, status, body)
			}
			pages = append(pages, c.page())
		}
		is := c.series()
		for series := range before.series() {
			if !is[series] {
				gone[series]++
			}
		}
		if _, page := get(t, r.page+"/metrics"); c.shown(page) != c.page() {
			t.Fatalf("after reload %d, from %+v to %+v, (-want +got):\n%s", i, before, c, gocmp.Diff(c.page(), c.shown(page)))
		}
		if i == reloads/5 {
			early = settled(resources{})
		}
	}
	scrapes := r.scraped()
	at := 0
	for i, page := range scrapes {
		was := at
		for at < len(pages) && pages[at] != c.shown(page) {
			at++
		}
		if at == len(pages) {
			t.Fatalf("page %d of %d is of no configuration from the one of the page before on:\n%s\n(-that +this):\n%s",
				i, len(scrapes), c.shown(page), gocmp.Diff(pages[was], c.shown(page)))
		}
	}
	late := settled(early)
	t.Logf("%d reloads, %d scrapes; %v early, %v late", reloads, len(scrapes), early, late)
	if late.more(early) {
		t.Errorf("reloads leave something behind: %v early, %v late", early, late)
	}
	r.end()

	marked := map[string]int{}
	for series, samples := range received(t, r.receiver) {
		moves := strings.Contains(series, `"subject"`) || strings.Contains(series, `"moving_seen"`)
		value, stale := samples[0].V, true
		for _, s := range samples {
			switch {
			case s.Stale() && stale:
				t.Errorf("%s has a stale marker behind another one, or none of its samples", series)
			case s.Stale():
				marked[series]++
				stale = true
			default:
				if s.V < value || s.V > value && !moves {
					t.Errorf("%s goes from %v to %v", series, value, s.V)
				}
				value, stale = s.V, false
			}
		}
		if strings.Contains(series, `"still_seen"`) && len(samples) != 1 {
			t.Errorf("%s is sent more than once: %v", series, samples)
		}
	}
	if d := gocmp.Diff(gone, marked); d != "" {
		t.Errorf("stale markers (-want +got):\n%s", d)
	}
}

// muteServer takes connections and reads from them until the test ends, and
// never says a word. It returns its port.
func muteServer(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		connections.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// received returns the samples of each series, whatever external labels it had
// at what time.
func received(t *testing.T, r *receiver.Receiver) map[string][]receiver.Sample {
	cluster := regexp.MustCompile(`cluster="[ab]", `)
	all := map[string][]receiver.Sample{}
	for series, samples := range r.Samples(t, `{__name__!=""}`) {
		series = cluster.ReplaceAllString(series, "")
		all[series] = append(all[series], samples...)
	}
	for series, samples := range all {
		slices.SortFunc(samples, func(a, b receiver.Sample) int { return cmp.Compare(a.T, b.T) })
		all[series] = slices.CompactFunc(samples, receiver.Sample.Equal) // sent again, with other labels
	}
	return all
}

// resources are what reloads must not leave behind.
type resources struct{ goroutines, descriptors int }

// spare is by how much resources vary with what a moment needs: connections
// that are idle, segments that are read. It is far below the number of reloads.
const spare = 8

func (r resources) more(than resources) bool {
	return r.goroutines > than.goroutines+spare || r.descriptors > than.descriptors+spare
}

// settled returns the resources when what ends by itself has ended: as soon as
// they are not more than wanted, or the least there were for a while.
func settled(wanted resources) (least resources) {
	patience := 3 * time.Second
	if wanted != (resources{}) {
		patience = 30 * time.Second
	}
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		descriptors, _ := os.ReadDir("/proc/self/fd")
		now := resources{runtime.NumGoroutine(), len(descriptors)}
		if least == (resources{}) || now.goroutines+now.descriptors < least.goroutines+least.descriptors {
			least = now
		}
		if wanted != (resources{}) && !least.more(wanted) || time.Now().After(deadline) {
			return least
		}
	}
}
