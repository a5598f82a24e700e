package agent

import (
	"log/slog"
	"os"
	"runtime"
	"testing"
)

// TestUnchangedGoesOn reloads with one query changed, and with nothing: what is
// as before is the very same, down to its goroutine and its connections.
func TestUnchangedGoesOn(t *testing.T) {
	r := newReloadable(t)
	a := runInside(t, r.load)
	for _, step := range []struct {
		edit    []string
		changed bool
	}{{[]string{"Old.", "New."}, true}, {nil, false}} {
		before, endpoint := a.sources[0], a.endpoints[0]
		r.edit(step.edit...)
		if err := a.reload(t.Context(), "test"); err != nil {
			t.Fatal(err)
		}
		after := a.sources[0]
		if after.client != before.client || after.up != before.up || after.queries[0] != before.queries[0] {
			t.Error("what did not change is another one")
		}
		if (after.queries[1] != before.queries[1]) != step.changed {
			t.Errorf("a query is another one: %v", !step.changed)
		}
		if a.endpoints[0] != endpoint {
			t.Error("an endpoint that did not change is another one")
		}
	}
}

// TestReloadsKeepNoMemory reloads metrics of every type over and over, with
// something else each time. The log remembers series that are gone for a while,
// so labels come and go.
func TestReloadsKeepNoMemory(t *testing.T) {
	reloads := 200
	if os.Getenv("SOAK") != "" {
		reloads = 2000
	}
	r := newReloadable(t)
	c := newChoices()
	reconfigure := func() { // without the frames that wait for a sync that nobody does here
		writeConfig(t, r.file, c.config("http://127.0.0.1:1")+"storage: {fsync: never}\n")
	}
	reconfigure()
	a := runInside(t, r.load)
	a.logger = slog.New(slog.DiscardHandler)
	heap := func() uint64 {
		a.departing.Wait()
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var early uint64
	for i := range reloads {
		c.help, c.regions, c.moving = i, i%4 < 2, i%2 == 0
		reconfigure()
		if err := a.reload(t.Context(), "test"); err != nil {
			t.Fatal(err)
		}
		if i == reloads/4+1 {
			early = heap()
		}
	}
	if late := heap(); late > early+early/10+256<<10 {
		t.Errorf("%d bytes of heap early, %d late", early, late)
	} else {
		t.Logf("%d bytes of heap early, %d late", early, late)
	}
}
