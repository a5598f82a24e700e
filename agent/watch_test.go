package agent

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sql2metrics/config"
)

// TestEdited edits the configuration and reloads it, well and badly: each
// content is reloaded once, whoever has asked first.
func TestEdited(t *testing.T) {
	r := newReloadable(t)
	a := runInside(t, r.load)
	unedited := func() {
		t.Helper()
		if a.edited(t.Context()) {
			t.Error("what was loaded, or refused, is to be loaded again")
		}
	}
	unedited()
	good := r.text
	for _, edits := range [][]string{{"Old.", "New."}, {"global: {", "global: {{"}, {"values: [n]", "values: [m]"}} {
		r.text = good
		r.edit(edits...)
		if !a.edited(t.Context()) {
			t.Error("an edit is not seen")
		}
		_ = a.reload(t.Context(), "test")
		unedited()
	}
	other := filepath.Join(filepath.Dir(r.file), "more.yml")
	writeConfig(t, other, "collector_name: more\nmetrics: [{metric_name: more, type: gauge, values: [n], query: SELECT 1 AS n}]\n")
	r.edit("global: {", "collector_files: ['mor*.yml']\nglobal: {")
	if err := a.reload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	unedited()
	if err := os.Rename(other, filepath.Join(filepath.Dir(r.file), "mores.yml")); err != nil {
		t.Fatal(err)
	}
	if !a.edited(t.Context()) {
		t.Error("a collector file of another name is not seen")
	}
}

// TestWatcherBegins with files that were edited between Load and its start.
func TestWatcherBegins(t *testing.T) {
	r := newReloadable(t)
	c, err := r.load()
	if err != nil {
		t.Fatal(err)
	}
	for _, edited := range []bool{false, true} {
		if edited {
			r.edit("Old.", "New.")
		}
		w := newWatcher(c.Files, slog.New(slog.DiscardHandler))
		if again := w.look(); again != edited {
			t.Errorf("edited: %v, to be looked at again: %v", edited, again)
		}
		if w.look() || (len(w.changed) == 1) != edited {
			t.Errorf("edited: %v, told: %v", edited, len(w.changed) == 1)
		}
		w.close()
	}
}

// TestRolledBack edits the files, has somebody ask for a reload, and takes the
// edit back before the watcher has looked: that is a change of what was read,
// whether it was taken up or refused.
func TestRolledBack(t *testing.T) {
	for name, c := range map[string]struct {
		edit    []string
		refused bool
	}{
		"taken up": {[]string{"Old.", "New."}, false},
		"refused":  {[]string{"global: {", "global: {{"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloadable(t)
			a := runInside(t, r.load)
			good := r.text
			a.watcher = newWatcher(a.config.Files, a.logger)
			defer a.watcher.close()
			r.edit(c.edit...)
			if err := a.reload(t.Context(), "POST /-/reload"); (err != nil) != c.refused {
				t.Fatalf("the reload returns %v", err)
			}
			r.text = good
			r.edit()
			defer start(t.Context(), a.watcher.run).stop()
			select {
			case <-a.watcher.changed:
				if !a.edited(t.Context()) {
					t.Error("told of a change that is none")
				}
			case <-time.After(20 * time.Second):
				t.Error("nobody is told")
			}
		})
	}
}

// TestStopsWhileFilesHang stops an agent whose reload hangs in a file system:
// who asked for it has an answer, and the agent ends.
func TestStopsWhileFilesHang(t *testing.T) {
	r := newReloadable(t)
	load, hangs, released, ended := r.load, make(chan struct{}), make(chan struct{}), make(chan struct{})
	first := true
	r.load = func() (*config.Config, error) {
		if first {
			first = false
			return load()
		}
		close(hangs)
		<-released
		defer close(ended)
		return load()
	}
	r.start()
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Post(r.page+"/-/reload", "", nil)
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	<-hangs
	r.stop()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	close(released)
	<-ended
}

// TestReloadOutlivesPanic reloads what the agent cannot read without a panic:
// the reload is refused, once for each content, and all runs on.
func TestReloadOutlivesPanic(t *testing.T) {
	r := newReloadable(t)
	load, panics := r.load, false
	a := runInside(t, func() (*config.Config, error) {
		if panics {
			var none *config.Config
			none.Sources = nil
		}
		return load()
	})
	before := a.config
	panics = true
	r.edit("Old.", "New.")
	err := a.reload(t.Context(), "test")
	if err == nil {
		t.Fatal("the reload is not refused")
	}
	for _, want := range []string{"could not be read", "internal error", "nil pointer", "watch_test.go:", "report"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if a.config != before || a.edited(t.Context()) {
		t.Errorf("another configuration: %v, to be loaded again: %v", a.config != before, a.edited(t.Context()))
	}
	panics = false
	if err := a.reload(t.Context(), "test"); err != nil || a.config == before {
		t.Errorf("the next reload returns %v", err)
	}
}

// TestReloadBesidePipe puts a pipe that nobody writes to among the collector
// files: the reload is refused, and the next one without it is not.
func TestReloadBesidePipe(t *testing.T) {
	r := newReloadable(t, "global: {", "collector_files: ['more*.yml']\nglobal: {")
	folder := filepath.Dir(r.file)
	writeConfig(t, filepath.Join(folder, "more.yml"), "collector_name: more\nmetrics: [{metric_name: more, type: gauge, values: [n], query: SELECT 1 AS n}]\n")
	a := runInside(t, r.load)
	pipe := filepath.Join(folder, "more-pipe.yml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if !a.edited(t.Context()) {
		t.Error("a pipe is not seen")
	}
	if err := a.reload(t.Context(), "test"); err == nil || a.edited(t.Context()) {
		t.Errorf("a pipe among collector files: %v", err)
	}
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	if !a.edited(t.Context()) {
		t.Error("that the pipe is gone is not seen")
	}
	if err := a.reload(t.Context(), "test"); err != nil {
		t.Error(err)
	}
}
