package agent

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sql2metrics/config"
)

// runInside runs all of an agent but its page and its loop of reloads, which
// the test calls itself.
func runInside(tb testing.TB, load func() (*config.Config, error)) *Agent {
	tb.Helper()
	c, err := load()
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	a := newAgent(Options{Config: c, Listener: l, Logger: slog.New(slog.NewTextHandler(tb.Output(), nil)), Load: load})
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := a.openSources(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(a.closeClients)
	if err := a.openLog(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(a.closeEndpoints)
	tb.Cleanup(a.closeLog)
	if err := a.openShipping(); err != nil {
		tb.Fatal(err)
	}
	a.ship(tb.Context())
	tb.Cleanup(func() { a.flushEndpoints(tb.Context(), 0) })
	a.collect(tb.Context())
	tb.Cleanup(a.closeTasks)
	tb.Cleanup(a.stopCollecting)
	return a
}

// TestEndpointThatCannotBeOpened reloads while the place of a new cursor is
// taken. That is no fault of the configuration: all else is as it says, the log
// keeps what the endpoint will need, and it opens when its place is free.
func TestEndpointThatCannotBeOpened(t *testing.T) {
	r := newReloadable(t)
	a := runInside(t, r.load)
	place := filepath.Join(a.config.Storage.Path, "cursors", "more.cursor")
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	endpoint := "{url: " + r.receiver.URL() + ", name: test,"
	r.edit(endpoint, "{url: "+r.receiver.URL()+", name: more}, "+endpoint, "Old.", "New.")
	kept := a.endpoints[0].shipper
	if err := a.reload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	names := func() string {
		var all []string
		for _, s := range a.statuses() {
			all = append(all, s.Name)
		}
		return strings.Join(all, " ")
	}
	if got := names(); got != "test" || a.endpoints[1].shipper != kept {
		t.Errorf("open are %q, and the one before goes on: %v", got, a.endpoints[1].shipper == kept)
	}
	if a.config.Sources[0].Queries[1].Metrics[1].Help != "New." || a.unopened == nil {
		t.Error("the rest of the reload was not done, or the log keeps nothing for the endpoint")
	}
	a.tryEndpoints(t.Context())
	if got := names(); got != "test" || a.unopened == nil {
		t.Errorf("open are %q while the place is taken", got)
	}
	if err := os.Remove(place); err != nil {
		t.Fatal(err)
	}
	a.tryEndpoints(t.Context())
	if got := names(); got != "more test" || a.unopened != nil {
		t.Errorf("open are %q when the place is free", got)
	}
}
