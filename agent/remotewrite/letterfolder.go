package remotewrite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// list finds what the folder holds, and deletes the segments of which
// everything was removed.
func (d *DeadLetter) list() error {
	changed, _ := d.timeOfChange()
	files, err := listLetterFiles(d.fs, d.path)
	if err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	var segments []*letterSegment
	d.last = map[string]*lastWindow{}
	for _, f := range files {
		d.next = max(d.next, f.number+1)
		if s := d.load(f); s != nil {
			segments = append(segments, s)
		}
	}
	d.segments, d.listed, d.changed = segments, true, changed
	d.next = max(d.next, 1)
	d.publish()
	return nil
}

// load returns a segment in the folder; nil if it is none that this version
// can read, which is left alone, or has just been deleted.
func (d *DeadLetter) load(f letterFile) *letterSegment {
	path := f.path(d.path)
	b, err := readLetterFile(d.fs, d.path, f)
	if err != nil {
		d.logger.Warn("dead letters cannot be read; they are left alone", "path", path, "err", err)
		return nil
	}
	frames, end, _, err := scanLetters(b)
	if err != nil {
		d.logger.Warn("a file among the dead letters is left alone", "path", path, "err", err)
		return nil
	}
	s := &letterSegment{letterFile: f, torn: end < f.size}
	s.size = end
	for _, l := range frames {
		d.remember(f.folder, l.window, l.hash)
		if !l.removed {
			s.letters++
		}
	}
	for _, known := range d.segments {
		if known.folder == f.folder && known.number == f.number {
			s.unsynced, s.named = known.unsynced, known.named
		}
	}
	if s.letters > 0 {
		return s
	}
	if err := d.fs.Remove(opRemoveLetters, path); ignoreMissing(err) != nil {
		d.logger.Warn("a segment of removed dead letters cannot be deleted; it is tried again", "path", path, "err", err)
		return s
	}
	return nil
}

// look lists the folder again if somebody else has removed letters from it. It
// is called now and then, and waits for nobody.
func (d *DeadLetter) look(now time.Time) {
	if d == nil || !d.mu.TryLock() {
		return
	}
	defer d.mu.Unlock()
	if now.Sub(d.looked) < lookEvery {
		return
	}
	d.looked = now
	if changed, err := d.timeOfChange(); err != nil || changed.Equal(d.changed) {
		return
	}
	d.noteWrite(d.list())
}

// timeOfChange is the folder's: whoever removes letters sets it.
func (d *DeadLetter) timeOfChange() (time.Time, error) {
	info, err := os.Stat(d.path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// moveLetters gives the letters of the endpoint from, as it is called or as its
// cursor is listed, to the endpoint to. What cannot be moved stays, and is
// moved by the next call.
func (d *DeadLetter) moveLetters(from, to string) error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.listed {
		if err := d.list(); err != nil {
			return err
		}
	}
	before, after := endpointFolder(from), endpointFolder(to)
	var errs []error
	moved := false
	for _, s := range d.segments {
		if s.folder != before || before == after {
			continue
		}
		if err := d.move(s, after); err != nil {
			errs = append(errs, err)
			continue
		}
		moved = true
	}
	if !moved {
		return errors.Join(errs...)
	}
	delete(d.last, before)
	if len(errs) == 0 {
		_ = d.fs.Remove(opRemoveLetters, filepath.Join(d.path, before)) // it stays if there is something else in it
	}
	if !d.noSync {
		errs = append(errs, d.fs.SyncDir(opSyncLetters, filepath.Join(d.path, after)), d.fs.SyncDir(opSyncLetters, d.path))
	}
	return errors.Join(errs...)
}

// move moves a segment to the folder of another endpoint.
func (d *DeadLetter) move(s *letterSegment, folder string) error {
	to := letterFile{folder: folder, number: s.number, size: s.size}
	for _, other := range d.segments {
		if other.folder == folder && other.number == s.number { // a copy
			to.number = d.next
			d.next++
		}
	}
	err := d.fs.MkdirAll(opLetterFolder, filepath.Join(d.path, folder), 0o750)
	if err == nil {
		err = d.fs.Rename(opMoveLetters, s.path(d.path), to.path(d.path))
	}
	if err != nil {
		return fmt.Errorf("hand dead letters over: %w", err)
	}
	s.letterFile = to
	return nil
}
