package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// MariaDB is a private MariaDB server with one superuser, one schema "app" and
// no durability. Its methods may be called from several goroutines.
type MariaDB struct {
	Host     string
	Port     int
	User     string // superuser
	Password string
	Socket   string // on which the superuser needs no password

	folder     string // holds everything; removed at the end
	binary     string
	credential *syscall.Credential // the user MariaDB runs as; nil is our own
	settings   []string

	daemon
}

const mariadbPattern = "/usr/sbin/mariadbd"

// MySQL starts a MariaDB server that ends with the test. A setting is one of
// mariadbd's options without its dashes.
func MySQL(tb testing.TB, settings ...Setting) *MariaDB {
	tb.Helper()
	Need(tb, "mariadb-server", mariadbPattern)
	m, err := StartMariaDB(settings...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := m.Remove(); err != nil {
			tb.Error(err)
		}
	})
	return m
}

// SharedMariaDB is one server for all tests of a binary: the first that asks
// starts it, TestMain ends it after the last. The zero value is ready.
type SharedMariaDB struct {
	shared[*MariaDB]
}

// Get returns the server. Tests that share it must not stop it.
func (s *SharedMariaDB) Get(tb testing.TB) *MariaDB {
	tb.Helper()
	Need(tb, "mariadb-server", mariadbPattern)
	return s.get(tb, func() (*MariaDB, error) { return StartMariaDB() })
}

// StartMariaDB starts a server for callers that have no test, such as TestMain.
// The caller removes it.
func StartMariaDB(settings ...Setting) (*MariaDB, error) {
	binary, err := find("mariadb-server", []string{mariadbPattern})
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "sql2metrics-mariadb-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for MariaDB: %w", err)
	}
	m := &MariaDB{
		Host:     "127.0.0.1",
		User:     "admin",
		Password: "p@ss'w\\ord: %20/?#", // whatever reads it has to quote it
		Socket:   filepath.Join(folder, "socket"),
		folder:   folder,
		binary:   binary,
	}
	for _, s := range settings {
		m.settings = append(m.settings, "--"+string(s))
	}
	if err = m.init(); err == nil {
		err = m.Start()
	}
	if err == nil {
		err = m.run("CREATE DATABASE app CHARACTER SET utf8mb4",
			"CREATE USER "+m.User+" IDENTIFIED BY "+quoteMySQL(m.Password),
			"GRANT ALL ON *.* TO "+m.User+" WITH GRANT OPTION")
	}
	if err != nil {
		return nil, errors.Join(err, m.Remove())
	}
	return m, nil
}

// init makes the data folder. Root runs the server as the user mysql that comes
// with the package, as MariaDB recommends.
func (m *MariaDB) init() error {
	var err error
	if m.Port, err = freePort(); err != nil {
		return err
	}
	install := exec.Command("mariadb-install-db", append(m.options(), "--auth-root-authentication-method=normal", "--skip-test-db")...)
	if os.Geteuid() == 0 {
		if m.credential, err = credentialOf("mysql"); err != nil {
			return err
		}
		if err := os.Chown(m.folder, int(m.credential.Uid), int(m.credential.Gid)); err != nil {
			return fmt.Errorf("give MariaDB its folder: %w", err)
		}
		install.Args = append(install.Args, "--user=mysql")
	}
	install.Dir = "/"
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	return nil
}

// options are those that the making of the data folder shares with the server.
func (m *MariaDB) options() []string {
	return []string{
		"--no-defaults", "--datadir=" + filepath.Join(m.folder, "data"), "--skip-name-resolve",
		"--innodb-log-file-size=4M", "--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=2",
	}
}

// WriteFile writes a file that the server can read, such as its certificate,
// and returns its path.
func (m *MariaDB) WriteFile(tb testing.TB, name string, content []byte) string {
	tb.Helper()
	path := filepath.Join(m.folder, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	if m.credential != nil {
		if err := os.Chown(path, int(m.credential.Uid), int(m.credential.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	return path
}

// Folder returns a folder in which the server may write.
func (m *MariaDB) Folder() string { return m.folder }

// Addr returns host:port.
func (m *MariaDB) Addr() string { return net.JoinHostPort(m.Host, strconv.Itoa(m.Port)) }

// Start starts the server on the port it always had and returns when it
// answers. It does nothing if the server runs. Further settings hold until it
// is stopped.
func (m *MariaDB) Start(settings ...Setting) error {
	args := append(m.options(),
		"--bind-address="+m.Host, "--port="+strconv.Itoa(m.Port), "--socket="+m.Socket,
		"--pid-file="+filepath.Join(m.folder, "pid"), "--secure-file-priv="+m.folder,
		"--innodb-buffer-pool-size=16M", "--max-connections=60",
	)
	args = append(args, m.settings...)
	for _, s := range settings {
		args = append(args, "--"+string(s))
	}
	return m.start(m.credential, func() error { return m.run("DO 1") }, m.binary, args...)
}

// Remove ends the server and removes its folder.
func (m *MariaDB) Remove() error {
	return errors.Join(m.Stop(), os.RemoveAll(m.folder))
}

// connect opens a connection as the superuser, in the schema app once there is
// one.
func (m *MariaDB) connect(ctx context.Context) (*sql.Conn, func(), error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User = "unix", m.Socket, "root"
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("connect as superuser: %w", err)
	}
	db := sql.OpenDB(connector)
	c, err := db.Conn(ctx)
	if err != nil {
		_ = db.Close()
		return nil, nil, fmt.Errorf("connect as superuser: %w", err)
	}
	// There is no schema yet while the server is made.
	_, _ = c.ExecContext(ctx, "USE app")
	return c, func() {
		_ = c.Close()
		_ = db.Close()
	}, nil
}

// run runs statements one after another on one connection.
func (m *MariaDB) run(statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	c, closeAll, err := m.connect(ctx)
	if err != nil {
		return err
	}
	defer closeAll()
	for _, statement := range statements {
		if _, err := c.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("run %s: %w", statement, err)
		}
	}
	return nil
}

func (m *MariaDB) query(statement string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	c, closeAll, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	rows, err := c.QueryContext(ctx, statement)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", statement, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", statement, err)
	}
	cells, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range cells {
		into[i] = &cells[i]
	}
	var found [][]string
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, fmt.Errorf("run %s: %w", statement, err)
		}
		row := make([]string, len(cells))
		for i, cell := range cells {
			row[i] = cell.String
		}
		found = append(found, row)
	}
	return found, rows.Err()
}

// Exec runs statements as the superuser, in the schema app.
func (m *MariaDB) Exec(tb testing.TB, statements ...string) {
	tb.Helper()
	if err := m.run(statements...); err != nil {
		tb.Fatal(err)
	}
}

// Hold runs a statement as the superuser, closes held, and keeps its connection,
// and so its locks, until release is closed.
func (m *MariaDB) Hold(tb testing.TB, statement string, held chan<- struct{}, release <-chan struct{}) {
	tb.Helper()
	defer close(held)
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	c, closeAll, err := m.connect(ctx)
	if err != nil {
		tb.Error(err)
		return
	}
	defer closeAll()
	if _, err := c.ExecContext(ctx, statement); err != nil {
		tb.Error(err)
		return
	}
	held <- struct{}{}
	<-release
}

// Query returns the rows of a query that reads, run as the superuser in the
// schema app; NULL is empty. It is asked again until a server that has just
// been started or resumed answers.
func (m *MariaDB) Query(tb testing.TB, statement string) (rows [][]string) {
	tb.Helper()
	Eventually(tb, statement, func() bool {
		var err error
		rows, err = m.query(statement)
		if said := new(mysql.MySQLError); errors.As(err, &said) {
			tb.Fatal(err)
		}
		return err == nil
	})
	return rows
}

// Account makes an account for one test, with the superuser's password and
// these grants on everything, and returns its name.
func (m *MariaDB) Account(tb testing.TB, grants string) string {
	tb.Helper()
	user := "u" + m.Query(tb, "SELECT UUID_SHORT()")[0][0]
	m.Exec(tb, "CREATE USER "+user+" IDENTIFIED BY "+quoteMySQL(m.Password), "GRANT "+grants+" ON *.* TO "+user)
	return user
}

// Connections returns how many connections an account has.
func (m *MariaDB) Connections(tb testing.TB, user string) int {
	tb.Helper()
	return m.count(tb, user, "")
}

// Running returns how many of them are inside a statement or transaction.
func (m *MariaDB) Running(tb testing.TB, user string) int {
	tb.Helper()
	return m.count(tb, user, ` AND (command <> 'Sleep' OR id IN (SELECT trx_mysql_thread_id FROM information_schema.innodb_trx))`)
}

func (m *MariaDB) count(tb testing.TB, user, and string) int {
	tb.Helper()
	rows := m.Query(tb, "SELECT count(*) FROM information_schema.processlist WHERE user = "+quoteMySQL(user)+and)
	n, err := strconv.Atoi(rows[0][0])
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// quoteMySQL returns s as a literal of the server's default sql_mode.
func quoteMySQL(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}
