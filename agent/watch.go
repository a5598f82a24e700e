package agent

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"sql2metrics/config"
)

const (
	// quiet is for how long files have to be the same before they are taken to
	// be written.
	quiet = 500 * time.Millisecond
	// lookAnyway is how often they are looked at where no event comes: some
	// file systems have none.
	lookAnyway = time.Minute
)

// watcher tells when the files of a configuration have other content. Folders
// are watched, not files: an editor puts a new file in the place of the old
// one, and a mounted ConfigMap has a symbolic link changed above them.
type watcher struct {
	changed chan struct{} // room for one
	follows chan config.Files
	logger  *slog.Logger
	events  *fsnotify.Watcher // nil: there are none, and files are looked at now and then
	files   config.Files
	seen    [sha256.Size]byte
	settles [sha256.Size]byte // as they were at the last look: somebody may be writing them
}

// newWatcher returns a watcher that compares files with what they were when they
// were loaded.
func newWatcher(files config.Files, logger *slog.Logger) *watcher {
	w := &watcher{
		changed: make(chan struct{}, 1),
		follows: make(chan config.Files, 1),
		logger:  logger,
		files:   files,
		seen:    files.Loaded,
	}
	var err error
	if w.events, err = fsnotify.NewWatcher(); err != nil {
		w.events = nil
		logger.Warn("files of the configuration are not watched, but looked at each minute", "err", err)
	}
	return w
}

func (w *watcher) close() {
	if w.events != nil {
		_ = w.events.Close()
	}
}

// follow has the watcher watch these files, which a reload has just read, and
// tell when they are other than what it read.
func (w *watcher) follow(files config.Files) {
	select {
	case <-w.follows:
	default:
	}
	w.follows <- files
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	var events <-chan fsnotify.Event
	var errs <-chan error
	if w.events != nil {
		events, errs = w.events.Events, w.events.Errors
	}
	timer := time.NewTimer(lookAnyway)
	defer timer.Stop()
	soon := false
	hurry := func() {
		if !soon { // a folder that never rests puts nothing off
			soon = true
			timer.Reset(quiet)
		}
	}
	hurry() // they may have been edited before they were watched
	for {
		select {
		case <-ctx.Done():
			return
		case w.files = <-w.follows:
			w.seen = w.files.Loaded
			hurry() // which watches their folders
		case <-events:
			hurry()
		case <-errs: // events were lost
			hurry()
		case <-timer.C:
			soon = false
			timer.Reset(lookAnyway)
			again, err := unlessOver(ctx, func() (bool, error) { return w.look(), nil })
			if err != nil && ctx.Err() == nil {
				w.logger.Error("files of the configuration not looked at", "err", err)
			}
			if again {
				hurry()
			}
		}
	}
}

// look tells it if the files have changed and are written. It returns whether
// that is to be seen soon.
func (w *watcher) look() (again bool) {
	w.watchFolders()
	now := w.files.Content()
	again = now != w.seen && now != w.settles
	w.settles = now
	if again || now == w.seen {
		return again
	}
	w.seen = now
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return false
}

// watchFolders watches the folders of all files, and of what they link to. One
// that is watched already, or is not there, is none of its troubles.
func (w *watcher) watchFolders() {
	if w.events == nil {
		return
	}
	for _, pattern := range w.files.Patterns {
		folders, _ := filepath.Glob(filepath.Dir(pattern))
		for _, folder := range folders {
			_ = w.events.Add(folder)
		}
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			if real, err := filepath.EvalSymlinks(name); err == nil {
				_ = w.events.Add(filepath.Dir(real))
			}
		}
	}
}
