//go:build unix

package sources

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// mayOpenWAL refuses to open a database in WAL mode where doing so could lock
// its application out. Even a reader makes SQLite create the files -wal and
// -shm beside the database when they are not there. SQLite gives them to the
// database's owner when it runs as root; under any other user they would
// belong to the agent, and the application could not write to them. While the
// application has the database open, both are there.
func mayOpenWAL(path string, file os.FileInfo) error {
	wal, err := inWALMode(path)
	if err != nil {
		return err
	}
	uid := os.Geteuid()
	owner, known := file.Sys().(*syscall.Stat_t)
	if !wal || uid == 0 || known && int(owner.Uid) == uid {
		return nil
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("open %s: it is in WAL mode and no application has it open; opening it as another user would leave files that its application cannot write to: run the agent as uid %d, or keep the application running", path, owner.Uid)
		}
	}
	return nil
}

// inWALMode reads the database header: the write and read versions of the
// file format, at offsets 18 and 19, are 2 in WAL mode.
func inWALMode(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("read database header: %w", err)
	}
	defer f.Close()
	var header [20]byte
	if _, err := io.ReadFull(f, header[:]); err != nil {
		return false, nil // an empty database, or none: SQLite says which
	}
	return header[18] == 2 && header[19] == 2, nil
}
