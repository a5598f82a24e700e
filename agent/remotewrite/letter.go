package remotewrite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// Letter describes a request in the dead letter.
type Letter struct {
	Endpoint string          `json:"endpoint"`
	Time     time.Time       `json:"time"` // when it was given up
	Reason   Reason          `json:"reason"`
	Status   int             `json:"status"` // of the last answer; 0: there was none
	Words    string          `json:"words"`  // of the receiver, or why there was no answer
	Protocol config.Protocol `json:"protocol"`
	Appended time.Time       `json:"appended"` // when the oldest of what was sent with it was appended to the log
	Window   uint64          `json:"window"`   // sequence number of the last frame of what was sent with it
	Series   []string        `json:"series"`   // the first few in it

	// Unconfirmed says that it was counted as unconfirmed and not under Reason:
	// the receiver may have it, or a part of it.
	Unconfirmed bool `json:"unconfirmed,omitempty"`

	Samples    uint64 `json:"samples"`
	Histograms uint64 `json:"histograms"`
	Exemplars  uint64 `json:"exemplars"`

	// Written is what the receiver says it has stored of the request; nil if
	// it has not said so, or nothing.
	Written *Written `json:"written,omitempty"`

	ID    string `json:"-"` // names it among all
	Bytes int64  `json:"-"` // on disk

	path   string // of its segment
	offset int64
	sum    uint32
}

// Written counts what a receiver says it has stored. Of which series, it does
// not say.
type Written struct {
	Samples    uint64 `json:"samples"`
	Histograms uint64 `json:"histograms"`
	Exemplars  uint64 `json:"exemplars"`
}

// DeadLetterFolder is where the dead letter is below storage.path.
func DeadLetterFolder(storagePath string) string { return filepath.Join(storagePath, "deadletter") }

// endpointFolder is the name of an endpoint's folder: its own where a folder
// can be called so, otherwise the short form that its cursor is listed by.
func endpointFolder(endpoint string) string {
	name, err := wal.CursorName(endpoint)
	if err != nil {
		name = endpoint
	}
	switch name = url.PathEscape(name); name {
	case "", ".", "..":
		return "%" + name // which nothing else is escaped to
	}
	return name
}

// endpointOf is the reverse of endpointFolder, for names that are not shortened.
func endpointOf(folder string) string {
	name, err := url.PathUnescape(folder)
	if err != nil {
		return strings.TrimPrefix(folder, "%")
	}
	return name
}

// Letters lists the dead letters in a folder, oldest first, of one endpoint or,
// with an empty name, of all. It may be called beside a running agent. What is
// damaged is left out, and named in the error beside the list.
func Letters(path, endpoint string) ([]Letter, error) {
	disk := wal.OperatingSystem()
	files, err := listLetterFiles(disk, path)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	var letters []Letter
	var errs []error
	for _, f := range files {
		if endpoint != "" && f.folder != endpointFolder(endpoint) {
			continue
		}
		found, err := lettersIn(disk, path, f)
		if err = ignoreMissing(err); err != nil {
			errs = append(errs, fmt.Errorf("dead letters in %s: %w", f.path(path), err))
		}
		letters = append(letters, found...)
	}
	if endpoint != "" {
		for i := range letters {
			letters[i].Endpoint = endpoint // it may have taken them over
		}
	}
	slices.SortStableFunc(letters, func(a, b Letter) int { return a.Time.Compare(b.Time) })
	return letters, errors.Join(errs...)
}

// lettersIn returns the letters of a segment that are not removed.
func lettersIn(disk wal.FileSystem, path string, file letterFile) (letters []Letter, err error) {
	b, err := readLetterFile(disk, path, file)
	if err != nil {
		return nil, err
	}
	frames, _, damage, err := scanLetters(b)
	if damage {
		err = errors.Join(err, fmt.Errorf("%w; those around it are listed", errLetterDamaged))
	}
	for _, f := range frames {
		if f.removed {
			continue
		}
		l, badLetter := f.letter()
		if badLetter != nil {
			err = errors.Join(err, badLetter)
			continue
		}
		if endpointFolder(l.Endpoint) != file.folder {
			l.Endpoint = endpointOf(file.folder)
		}
		l.path = file.path(path)
		letters = append(letters, l)
	}
	return letters, err
}

// RemoveLetters removes letters that [Letters] has listed from the folder, and
// returns how many of them it has; the others were gone already, or are in the
// error. It may be called beside a running agent, which gives their space back.
func RemoveLetters(path string, letters []Letter) (removed int, err error) {
	var errs []error
	for i := range letters {
		gone, err := letters[i].remove()
		if err != nil {
			errs = append(errs, fmt.Errorf("remove dead letter %s: %w", letters[i].ID, err))
		}
		if gone {
			removed++
		}
	}
	return removed, errors.Join(append(errs, tellRemoved(path))...)
}

// remove marks the letter as removed. It returns false if somebody else has.
func (l *Letter) remove() (gone bool, err error) {
	file, err := wal.OperatingSystem().OpenFile(opMarkLetter, l.path, os.O_RDWR, 0)
	if err != nil {
		return false, ignoreMissing(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	f, err := l.read(file)
	if err != nil || f.removed {
		return false, ignoreMissing(err)
	}
	_, err = file.WriteAt(opMarkLetter, []byte(letterGone), l.offset+letterMarkOffset)
	return err == nil, err
}

// read reads the letter from its segment; fs.ErrNotExist if it is not there.
func (l *Letter) read(file wal.File) (letterFrame, error) {
	b := make([]byte, l.Bytes)
	if _, err := file.ReadAt(opReadLetters, b, l.offset); err != nil && !errors.Is(err, io.EOF) {
		return letterFrame{}, err
	}
	f, err := decodeLetterFrame(b)
	if err != nil || f.sum != l.sum {
		return f, fs.ErrNotExist
	}
	return f, nil
}

// tellRemoved has a running agent look at the folder again, by its time of
// change.
func tellRemoved(path string) error {
	if err := os.Chtimes(path, time.Time{}, time.Now()); ignoreMissing(err) != nil {
		return fmt.Errorf("tell the agent that dead letters are removed; it counts them until its next start: %w", err)
	}
	return nil
}
