package sources_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sql2metrics/sources"
)

// taskVariable makes the test binary do as another user's process is told in
// place of the tests: it holds the path of a database.
const taskVariable = "SQL2METRICS_TEST_DATABASE"

// runTask answers each line of its input with one line. It is the application
// that owns the database, or an agent that reads it.
func runTask(path string) int {
	var (
		application *sql.DB
		agent       sources.Source
		err         error
	)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer := "ok"
		switch in.Text() {
		case "open":
			if application, err = sql.Open("sqlite", fileURI(path)); err == nil {
				application.SetMaxOpenConns(1)
				_, err = application.Exec("PRAGMA journal_mode = wal")
			}
		case "write":
			_, err = application.Exec("CREATE TABLE IF NOT EXISTS t (v int); INSERT INTO t VALUES (1)")
		case "close":
			err = application.Close()
		case "read":
			if agent == nil {
				agent, err = sources.Open(sqliteSource(path), sources.Options{})
			}
			if err == nil {
				err = agent.Query(context.Background(), query("SELECT count(*) FROM t"), func(r *sources.Row) error {
					answer = line(r)
					return nil
				})
			}
		case "leave":
			err = agent.Close()
		}
		if err != nil {
			answer = "error: " + strings.ReplaceAll(err.Error(), "\n", " ")
			if errors.As(err, new(*sources.ConnectError)) {
				answer = "unreachable: " + answer
			}
			err = nil
		}
		fmt.Println(answer)
	}
	return 0
}

// person is a process of another user.
type person struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

func startPerson(t *testing.T, binary, database string, uid uint32) person {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.Dir = "/"
	// A program built with -race would sleep for a second at its end.
	cmd.Env = append(os.Environ(), taskVariable+"="+database, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return person{in, bufio.NewScanner(out)}
}

// do checks that the answer to a command starts with want.
func (p person) do(t *testing.T, command, want string) {
	t.Helper()
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		t.Fatal(err)
	}
	p.out.Scan()
	if got := p.out.Text(); !strings.HasPrefix(got, want) {
		t.Errorf("%s: %s, want %s", command, got, want)
	}
}

// The agent comes and goes beside an application whose database is in WAL
// mode; the application can write throughout.
func TestSQLiteWALMode(t *testing.T) {
	const owner, stranger, root = 65534, 65533, 0
	users := map[string]uint32{"same user": owner}
	if os.Geteuid() == 0 {
		users["another user"], users["root"] = stranger, root
	}
	binary := executableForAll(t)
	for name, uid := range users {
		t.Run(name, func(t *testing.T) {
			// Everybody may make files in the folder, which is where a
			// stranger could do harm.
			database := filepath.Join(openFolder(t), "app.db")
			application := startPerson(t, binary, database, owner)
			application.do(t, "open", "ok")
			application.do(t, "write", "ok")

			t.Log("both have it open")
			agent := startPerson(t, binary, database, uid)
			agent.do(t, "read", "1")
			application.do(t, "write", "ok")
			agent.do(t, "read", "2")
			t.Log("the application goes and comes back under the agent's eyes")
			application.do(t, "close", "ok")
			agent.do(t, "read", "2")
			application.do(t, "open", "ok")
			application.do(t, "write", "ok")
			agent.do(t, "read", "3")
			t.Log("the agent goes")
			agent.do(t, "leave", "ok")
			application.do(t, "write", "ok")
			application.do(t, "close", "ok")
			if left := beside(t, database); len(left) != 0 {
				t.Errorf("the application leaves %v", left)
			}

			t.Log("the agent is alone")
			agent = startPerson(t, binary, database, uid)
			if uid == stranger {
				agent.do(t, "read", "unreachable: error: query q: connect to source lite: open "+database+": it is in WAL mode")
				if made := beside(t, database); len(made) != 0 {
					t.Errorf("the agent made %v", made)
				}
				application.do(t, "open", "ok")
				application.do(t, "write", "ok")
				agent.do(t, "read", "5")
			} else {
				agent.do(t, "read", "4")
				application.do(t, "open", "ok")
				application.do(t, "write", "ok")
				agent.do(t, "read", "5")
			}
			agent.do(t, "leave", "ok")
			application.do(t, "write", "ok")
			application.do(t, "close", "ok")

			t.Log("the agent comes and goes alone, then the application comes")
			agent = startPerson(t, binary, database, uid)
			if uid == stranger {
				agent.do(t, "read", "unreachable")
			} else {
				agent.do(t, "read", "6")
				agent.do(t, "leave", "ok")
			}
			application.do(t, "open", "ok")
			application.do(t, "write", "ok")
			application.do(t, "close", "ok")
			for _, path := range append(beside(t, database), database) {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if uid := info.Sys().(*syscall.Stat_t).Uid; os.Geteuid() == 0 && uid != owner {
					t.Errorf("%s belongs to %d", path, uid)
				}
			}
		})
	}
}

// beside returns the files that SQLite made beside the database.
func beside(t *testing.T, database string) []string {
	t.Helper()
	files, err := filepath.Glob(database + "-*")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// openFolder returns a folder in which every user may make files.
func openFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "sql2metrics-wal-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	return folder
}

// executableForAll copies the test binary to where every user may run it.
func executableForAll(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(openFolder(t), "person")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
