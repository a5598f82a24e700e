package e2e

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// Users for processes that must not be each other's, nor root's.
const (
	applicationUser = 65534
	strangerUser    = 65533
)

// TestSQLiteStaysWritable lets an agent come and go at a database in WAL mode:
// whoever the agent is, and whether or not the application has the database
// open meanwhile, the application writes afterwards as before.
func TestSQLiteStaysWritable(t *testing.T) {
	for name, c := range map[string]struct {
		agent   uint32
		held    bool // by the application, while the agent runs
		refused bool // the agent keeps its hands off
	}{
		"same user":          {agent: applicationUser},
		"same user, held":    {agent: applicationUser, held: true},
		"another user":       {agent: strangerUser, refused: true},
		"another user, held": {agent: strangerUser, held: true},
		"root":               {agent: 0, refused: true},
		"root, held":         {agent: 0, held: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newApplication(t, c.agent)
			app.write(t, "CREATE TABLE orders (id TEXT PRIMARY KEY, n INTEGER); INSERT INTO orders VALUES ('one', 1)")
			if c.held {
				defer app.hold(t)()
			}
			r := receiver.Start(t, receiver.Options{})
			s := shop{path: app.path}
			watch := setup{config: s.config(100*time.Millisecond, r.URL()), storage: app.folder(t, "data", c.agent), uid: user(c.agent)}
			up, want := 1.0, 1
			if c.refused {
				up, want = 0, 0
			}

			a := start(t, watch)
			waitForUp(t, r, "shop-0", up, time.Time{})
			eventually(t, "the agent's view", func() error { return atLeast(len(r.Samples(t, "orders")), want) })
			app.write(t, "INSERT INTO orders VALUES ('while it runs', 2)")
			a.kill()
			app.write(t, "INSERT INTO orders VALUES ('after it was killed', 3)")
			a = start(t, watch)
			eventually(t, "the agent's view", func() error { return atLeast(len(r.Samples(t, "orders")), 3*want) })
			a.stop(t)
			app.write(t, "INSERT INTO orders VALUES ('after it left', 4)")
		})
	}
}

// application is another process, of another user if the tests run as root,
// with a database in WAL mode.
type application struct {
	path string
	dir  string
	uid  uint32
}

func newApplication(t *testing.T, agent uint32) *application {
	t.Helper()
	dir, _ := foreignFolder(t)
	if os.Getuid() != 0 && agent != applicationUser {
		t.Skip("only root starts processes of several users")
	}
	app := &application{dir: dir, path: filepath.Join(dir, "shop.db"), uid: user(applicationUser)}
	// Whoever the agent is, nothing but its own care keeps it from leaving
	// files here.
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return app
}

// user returns the user that a process is started as: everybody is one where
// the tests are not root.
func user(uid uint32) uint32 {
	if os.Getuid() != 0 {
		return 0
	}
	return uid
}

// folder makes a folder for a user.
func (app *application) folder(t *testing.T, name string, uid uint32) string {
	t.Helper()
	path := filepath.Join(app.dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// write opens the database, runs statements and closes it.
func (app *application) write(t *testing.T, statements string) {
	t.Helper()
	if out, err := app.command(t, statements, "").CombinedOutput(); err != nil {
		t.Fatalf("the application: %s: %v\n%s", statements, err, out)
	}
}

// hold keeps the database open until the returned function is called.
func (app *application) hold(t *testing.T) (release func()) {
	t.Helper()
	cmd := app.command(t, "UPDATE orders SET n = n + 1", "hold")
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
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the application that holds: %q, %v", line, err)
	}
	return func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the application that holds: %v", err)
		}
	}
}

const applicationVariable = "E2E_APPLICATION_DATABASE"

// command returns this test binary, to be run as the application.
func (app *application) command(t *testing.T, statements, hold string) *exec.Cmd {
	t.Helper()
	path, err := testBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, statements, hold)
	cmd.Dir = app.dir
	cmd.Env = append(os.Environ(), applicationVariable+"="+app.path)
	if app.uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: app.uid, Gid: app.uid}}
	}
	return cmd
}

// testBinary is a copy of the running binary that every user may start. Another
// process makes it: a file that this one has open for writing is so in a child
// just forked, too, and nobody can start it until that child is another program.
var testBinary = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(buildFolder(), "application")
	if out, err := exec.Command("install", "-m", "755", self, path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy the test binary: %w\n%s", err, out)
	}
	return path, nil
})

// runApplication is what the test binary does instead of tests when it is
// started by an application.
func runApplication(path string, args []string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(args[0]); err != nil {
		return err
	}
	fmt.Println("written")
	if args[1] == "hold" {
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
	}
	return db.Close()
}
