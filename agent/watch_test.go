package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestEdited edits the configuration and reloads it, well and badly: each
// content is reloaded once, whoever has asked first.
func TestEdited(t *testing.T) {
	r := newReloadable(t)
	a := runInside(t, r.load)
	unedited := func() {
		t.Helper()
		if a.edited() {
			t.Error("what was loaded, or refused, is to be loaded again")
		}
	}
	unedited()
	good := r.text
	for _, edits := range [][]string{{"Old.", "New."}, {"global: {", "global: {{"}, {"values: [n]", "values: [m]"}} {
		r.text = good
		r.edit(edits...)
		if !a.edited() {
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
	if !a.edited() {
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
