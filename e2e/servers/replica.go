package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Replica starts a streaming replica of pg that ends with the test.
func (pg *PG) Replica(tb testing.TB, settings ...Setting) *PG {
	tb.Helper()
	r, err := pg.replica(settings)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Remove(); err != nil {
			tb.Error(err)
		}
	})
	if err := r.Start(); err != nil {
		tb.Fatal(err)
	}
	return r
}

func (pg *PG) replica(settings []Setting) (*PG, error) {
	folder, err := os.MkdirTemp("", "sql2metrics-pg-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for a replica: %w", err)
	}
	r := &PG{Host: pg.Host, User: pg.User, Password: pg.Password, folder: folder, bin: pg.bin, credential: pg.credential}
	for _, s := range settings {
		r.settings = append(r.settings, "-c", string(s))
	}
	if r.Port, err = freePort(); err != nil {
		return nil, err
	}
	if r.credential != nil {
		if err := os.Chown(folder, int(r.credential.Uid), int(r.credential.Gid)); err != nil {
			return nil, fmt.Errorf("give the replica its folder: %w", err)
		}
	}
	backup := exec.Command(filepath.Join(pg.bin, "pg_basebackup"), "--pgdata", r.Folder(), "--write-recovery-conf",
		"--wal-method", "stream", "--checkpoint", "fast", "--no-sync",
		"--host", pg.Host, "--port", strconv.Itoa(pg.Port), "--username", pg.User)
	backup.Dir = "/"
	backup.Env = append(os.Environ(), "PGPASSWORD="+pg.Password)
	backup.SysProcAttr = &syscall.SysProcAttr{Credential: r.credential}
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	return r, nil
}

// Promote makes a replica a primary.
func (pg *PG) Promote(tb testing.TB) {
	tb.Helper()
	pg.Exec(tb, "SELECT pg_promote()")
}

// CatchUp waits until a replica has all that its primary has committed. The
// switch to the next segment flushes what an asynchronous commit has not.
func (pg *PG) CatchUp(tb testing.TB, primary *PG) {
	tb.Helper()
	at := primary.Query(tb, "SELECT pg_switch_wal()")[0][0]
	Eventually(tb, "the replica catches up", func() bool {
		return pg.Query(tb, "SELECT coalesce(pg_last_wal_replay_lsn() >= '"+at+"', false)")[0][0] == "t"
	})
}
