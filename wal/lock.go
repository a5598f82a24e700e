package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockRetry is how often a lock is tried that another process holds, and a
// folder that the disk has no room for.
const lockRetry = 100 * time.Millisecond

// takeFolder makes the log's folder and takes its lock. A disk that is too full
// for either is waited for until ctx ends: to fail would free nothing.
func (l *Log) takeFolder(ctx context.Context) error {
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for said := false; ; said = true {
		err := l.fs.MkdirAll(opMakeFolder, l.o.Path, 0o750)
		if err != nil {
			err = makeFolderError(err)
		} else {
			l.lock, err = lockFolder(ctx, l.o.Path, l.log)
		}
		if !isFull(err) {
			return err
		}
		if !said {
			l.log.Error("the disk has no room to begin the log; nothing is collected until it has, free some space", "err", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func makeFolderError(err error) error {
	return fmt.Errorf("make folder of the log: %w; see to it that the agent's user may write there", err)
}

// isFull tells whether err is of a disk that has no room, or no more for us.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// lockFolder takes the folder's lock, which ends with the process however it
// ends. Rolling restarts overlap, so a lock that is held is waited for until
// ctx ends, and the log says whose it is.
func lockFolder(ctx context.Context, path string, log *slog.Logger) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open lock of the log: %w; see to it that the agent's user may write there", err)
	}
	if err := waitForLock(ctx, f, path, log); err != nil {
		f.Close()
		return nil, err
	}
	// For whoever waits next; the lock itself does not depend on it.
	host, _ := os.Hostname()
	if err := f.Truncate(0); err == nil {
		_, err = fmt.Fprintf(f, "process %d on host %s\n", os.Getpid(), host)
		if err != nil {
			log.Warn("lock of the log does not say who holds it", "path", f.Name(), "err", err)
		}
	}
	return f, nil
}

func waitForLock(ctx context.Context, f *os.File, path string, log *slog.Logger) error {
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for said := false; ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil && said:
			log.Info("the log is free; going on", "path", path)
			return nil
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", f.Name(), os.NewSyscallError("flock", err))
		}
		holder := lockHolder(f)
		if !said {
			log.Warn("another process holds the log; waiting until it ends", "path", path, "holder", holder)
			said = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the log in %s, which another process (%s) holds; stop it or use another folder: %w",
				path, holder, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func lockHolder(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 512))
	if s := strings.TrimSpace(string(b)); err == nil && s != "" {
		return s
	}
	return "unknown"
}
