package sources_test

import (
	"bufio"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
		command, argument, _ := strings.Cut(in.Text(), " ")
		switch command {
		case "open":
			application, err = openAs(path, argument)
		case "write":
			_, err = application.Exec(write)
		case "try": // to write, without patience
			_, err = application.Exec("PRAGMA busy_timeout = 0;" + write)
		case "cycle":
			answer, err = cycle(path, argument)
		case "visit":
			answer, err = visit(path, argument)
		case "close":
			err = application.Close()
		case "die":
			fmt.Println("ok")
			return 0
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

const write = "CREATE TABLE IF NOT EXISTS t (v int); INSERT INTO t VALUES (1);"

// openAs opens the database as its application does, in WAL mode unless
// another is given.
func openAs(path, journalMode string) (*sql.DB, error) {
	application, err := sql.Open("sqlite", fileURI(path))
	if err != nil {
		return nil, err
	}
	application.SetMaxOpenConns(1)
	_, err = application.Exec("PRAGMA synchronous = off; PRAGMA journal_mode = " + cmp.Or(journalMode, "wal"))
	return application, err
}

// cycle is an application that opens its database, writes and closes, many
// times.
func cycle(path, times string) (string, error) {
	n, err := strconv.Atoi(times)
	if err != nil {
		return "", err
	}
	for i := range n {
		application, err := openAs(path, "")
		if err == nil {
			_, err = application.Exec(write)
		}
		if err := errors.Join(err, application.Close()); err != nil {
			return "", fmt.Errorf("cycle %d of %d: %w", i, n, err)
		}
	}
	return "ok", nil
}

// visit is an agent that starts, reads and stops, many times. It says how
// often it could read.
func visit(path, times string) (string, error) {
	n, err := strconv.Atoi(times)
	if err != nil {
		return "", err
	}
	reads := 0
	for i := range n {
		agent, err := sources.Open(sqliteSource(path), sources.Options{})
		if err != nil {
			return "", err
		}
		err = agent.Query(context.Background(), query("SELECT count(*) FROM t"), ignore)
		switch {
		case err == nil:
			reads++
		case errors.As(err, new(*sources.ConnectError)) && strings.Contains(err.Error(), "WAL mode"):
			err = nil
		}
		if err := errors.Join(err, agent.Close()); err != nil {
			return "", fmt.Errorf("visit %d of %d: %w", i, n, err)
		}
	}
	return fmt.Sprintf("ok, %d of %d visits could read", reads, n), nil
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
	p.tell(t, command)
	if got := p.answer(); !strings.HasPrefix(got, want) {
		t.Errorf("%s: %s, want %s", command, got, want)
	}
}

func (p person) tell(t *testing.T, command string) {
	t.Helper()
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		t.Fatal(err)
	}
}

func (p person) answer() string {
	p.out.Scan()
	return p.out.Text()
}

// Users of the application, of an agent that is neither it nor root, and root.
const owner, stranger, root = 65534, 65533, 0

// The agent comes and goes beside an application whose database is in WAL
// mode; the application can write throughout.
func TestSQLiteWALMode(t *testing.T) {
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
			if uid != owner {
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
			if uid != owner {
				agent.do(t, "read", "unreachable")
			} else {
				agent.do(t, "read", "6")
				agent.do(t, "leave", "ok")
			}
			application.do(t, "open", "ok")
			application.do(t, "write", "ok")
			application.do(t, "close", "ok")
			checkOwner(t, database)
		})
	}
}

// The application comes and goes in the very moments in which a stranger does.
func TestSQLiteWALModeInStep(t *testing.T) {
	users := map[string]uint32{"same user": owner}
	if os.Geteuid() == 0 {
		users["another user"], users["root"] = stranger, root
	}
	const rounds = "1000"
	binary := executableForAll(t)
	for name, uid := range users {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := filepath.Join(openFolder(t), "app.db")
			application := startPerson(t, binary, database, owner)
			agent := startPerson(t, binary, database, uid)
			application.do(t, "cycle 1", "ok")
			application.tell(t, "cycle "+rounds)
			agent.tell(t, "visit "+rounds)
			for who, p := range map[string]person{"application": application, "agent": agent} {
				answer := p.answer()
				t.Logf("%s, %s rounds: %s", who, rounds, answer)
				if !strings.HasPrefix(answer, "ok") {
					t.Errorf("%s: %s", who, answer)
				}
			}
			checkOwner(t, database)
			application.do(t, "cycle 1", "ok")
			if left := beside(t, database); len(left) != 0 {
				t.Errorf("the application leaves %v", left)
			}
		})
	}
}

// A database that goes over to WAL mode is left alone from then on, whatever
// the agent knew of it.
func TestSQLiteBecomesWALMode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts processes of several users")
	}
	binary := executableForAll(t)
	database := filepath.Join(openFolder(t), "an app's %41?#.db")
	application := startPerson(t, binary, database, owner)
	agent := startPerson(t, binary, database, stranger)
	application.do(t, "open delete", "ok")
	application.do(t, "write", "ok")
	agent.do(t, "read", "1")
	application.do(t, "close", "ok")
	application.do(t, "cycle 1", "ok")
	agent.do(t, "read", "unreachable")
	if made := beside(t, database); len(made) != 0 {
		t.Errorf("the agent made %v", made)
	}
	application.do(t, "open", "ok")
	application.do(t, "write", "ok")
	agent.do(t, "read", "3")
	agent.do(t, "leave", "ok")
	application.do(t, "close", "ok")
}

// What an application that died left beside its database is read, and is
// still the application's when it comes back.
func TestSQLiteWALModeAfterCrash(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts processes of several users")
	}
	binary := executableForAll(t)
	database := filepath.Join(openFolder(t), "app.db")
	application := startPerson(t, binary, database, owner)
	application.do(t, "open", "ok")
	application.do(t, "write", "ok")
	application.do(t, "die", "ok")

	agent := startPerson(t, binary, database, stranger)
	agent.do(t, "read", "1")
	application = startPerson(t, binary, database, owner)
	application.do(t, "open", "ok")
	application.do(t, "write", "ok")
	agent.do(t, "read", "2")
	checkOwner(t, database)
	agent.do(t, "leave", "ok")
	application.do(t, "close", "ok")
	if left := beside(t, database); len(left) != 0 {
		t.Errorf("the application leaves %v", left)
	}
}

// POSIX takes a process's locks from it when it closes any descriptor of the
// file: a connection that opens must not end the protection of one that reads.
func TestSQLiteKeepsLocks(t *testing.T) {
	database := filepath.Join(openFolder(t), "app.db")
	application := startPerson(t, executableForAll(t), database, owner)
	application.do(t, "open delete", "ok")
	application.do(t, "write", "ok")
	s := open(t, sqliteSource(database))
	err := s.Query(t.Context(), query("SELECT v FROM t"), func(*sources.Row) error {
		application.do(t, "try", "error: database is locked")
		if err := s.Query(t.Context(), query("SELECT v FROM t"), ignore); err != nil {
			return err
		}
		application.do(t, "try", "error: database is locked")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	application.do(t, "try", "ok")
	application.do(t, "close", "ok")
}

// checkOwner checks that the database and what is beside it are the
// application's.
func checkOwner(t *testing.T, database string) {
	t.Helper()
	for _, path := range append(beside(t, database), database) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; os.Geteuid() == 0 && uid != owner {
			t.Errorf("%s belongs to %d", path, uid)
		}
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
