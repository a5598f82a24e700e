package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Bouncer is a private pgbouncer in transaction mode before a [PG]. It knows
// the server's superuser, who may use its console too.
type Bouncer struct {
	Host string
	Port int

	pg         *PG
	folder     string
	binary     string
	credential *syscall.Credential

	usersMu sync.Mutex
	users   map[string]string // passwords

	daemon
}

// PgBouncer starts a pgbouncer before pg that ends with the test.
func PgBouncer(tb testing.TB, pg *PG) *Bouncer {
	tb.Helper()
	b := &Bouncer{Host: "127.0.0.1", pg: pg, folder: tb.TempDir(), users: map[string]string{pg.User: pg.Password}}
	b.binary = Need(tb, "pgbouncer", "/usr/sbin/pgbouncer")
	if err := b.init(); err != nil {
		tb.Fatal(err)
	}
	if err := b.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return b
}

func (b *Bouncer) init() (err error) {
	if b.Port, err = freePort(); err != nil {
		return err
	}
	// It refuses to run as root, as the server does.
	if os.Geteuid() == 0 {
		if b.credential, err = credentialOf("postgres"); err != nil {
			return err
		}
	}
	return errors.Join(b.write("userlist.txt", b.userList()), b.write("pgbouncer.ini", fmt.Sprintf(`
[databases]
* = host=%s port=%d
[pgbouncer]
listen_addr = %s
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
admin_users = %s
pool_mode = transaction
default_pool_size = 5
`, b.pg.Host, b.pg.Port, b.Host, b.Port, b.path("userlist.txt"), b.pg.User)))
}

func (b *Bouncer) path(name string) string { return filepath.Join(b.folder, name) }

// write puts a file where pgbouncer may read it: not in the test's folder,
// which belongs to its user, but opened by that name for everybody. It reads
// some of them whenever it likes, so each is there as a whole or not at all.
func (b *Bouncer) write(name, content string) error {
	for dir := b.folder; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			return fmt.Errorf("open folder to pgbouncer: %w", err)
		}
	}
	whole := b.path(name + ".new")
	if err := os.WriteFile(whole, []byte(content), 0o644); err != nil {
		return fmt.Errorf("write %s of pgbouncer: %w", name, err)
	}
	return os.Rename(whole, b.path(name))
}

func (b *Bouncer) userList() string {
	var list strings.Builder
	quote := strings.NewReplacer(`"`, `""`)
	for user, password := range b.users {
		fmt.Fprintf(&list, "\"%s\" \"%s\"\n", quote.Replace(user), quote.Replace(password))
	}
	return list.String()
}

// SetPassword adds a user to auth_file, or changes the password, and has
// pgbouncer read it again. The server's own password is the caller's to change.
func (b *Bouncer) SetPassword(tb testing.TB, user, password string) {
	tb.Helper()
	b.usersMu.Lock()
	b.users[user] = password
	if user == b.pg.User {
		tb.Error("the console needs the superuser's password")
	}
	err := b.write("userlist.txt", b.userList())
	b.usersMu.Unlock()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := b.console("RELOAD"); err != nil {
		tb.Fatal(err)
	}
}

// Addr returns host:port.
func (b *Bouncer) Addr() string { return net.JoinHostPort(b.Host, strconv.Itoa(b.Port)) }

// Start starts pgbouncer on the port it always had and returns when its console
// answers. It does nothing if it runs.
func (b *Bouncer) Start() error {
	ready := func() error {
		_, err := b.console("SHOW VERSION")
		return err
	}
	return b.start(b.credential, ready, b.binary, b.path("pgbouncer.ini"))
}

// Stop kills pgbouncer. It is an error if that ended by itself before.
func (b *Bouncer) Stop() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.process == nil {
		return nil
	}
	p := b.process
	b.process = nil
	select {
	case <-p.exited:
		return fmt.Errorf("pgbouncer ended by itself: %w\n%s", p.err, p.output.String())
	default:
	}
	return p.stop(syscall.SIGKILL)
}

// Console returns the rows of a command of the admin console.
func (b *Bouncer) Console(tb testing.TB, command string) [][]string {
	tb.Helper()
	rows, err := b.console(command)
	if err != nil {
		tb.Fatal(err)
	}
	return rows
}

func (b *Bouncer) console(command string) ([][]string, error) {
	admin := &PG{Host: b.Host, Port: b.Port, User: b.pg.User, Password: b.pg.Password}
	rows, err := admin.query("pgbouncer", command)
	if err != nil {
		return nil, fmt.Errorf("pgbouncer: %w", err)
	}
	return rows, nil
}
