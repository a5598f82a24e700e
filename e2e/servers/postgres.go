package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// PG is a private PostgreSQL server with one superuser, one database
// "postgres" and no durability. Its methods may be called from several
// goroutines.
type PG struct {
	Host     string
	Port     int
	User     string // superuser
	Password string

	folder     string // holds everything; removed at the end
	bin        string
	credential *syscall.Credential // the user PostgreSQL runs as; nil is our own
	settings   []string

	daemon
}

// Setting is a server setting that is not the default here, such as
// ssl=on.
type Setting string

// Postgres starts a server that ends with the test.
func Postgres(tb testing.TB, settings ...Setting) *PG {
	tb.Helper()
	Need(tb, "postgresql", postgresPattern)
	pg, err := StartPostgres(settings...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := pg.Remove(); err != nil {
			tb.Error(err)
		}
	})
	return pg
}

// SharedPostgres is one server for all tests of a binary: the first that asks
// starts it, TestMain ends it after the last. The zero value is ready.
type SharedPostgres struct {
	shared[*PG]
}

// Get returns the server. Tests that share it must not stop it.
func (s *SharedPostgres) Get(tb testing.TB) *PG {
	tb.Helper()
	Need(tb, "postgresql", postgresPattern)
	return s.get(tb, func() (*PG, error) { return StartPostgres() })
}

const postgresPattern = "/usr/lib/postgresql/*/bin/postgres"

// StartPostgres starts a server for callers that have no test, such as
// TestMain. The caller removes it.
func StartPostgres(settings ...Setting) (*PG, error) {
	binary, err := find("postgresql", []string{postgresPattern})
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "sql2metrics-pg-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for PostgreSQL: %w", err)
	}
	pg := &PG{
		Host:     "127.0.0.1",
		User:     "postgres",
		Password: "p@ss'w\\ord: %20/?#", // whatever reads it has to quote it
		folder:   folder,
		bin:      filepath.Dir(binary),
	}
	for _, s := range settings {
		pg.settings = append(pg.settings, "-c", string(s))
	}
	if err = pg.init(); err == nil {
		err = pg.Start()
	}
	if err != nil {
		return nil, errors.Join(err, pg.Remove())
	}
	return pg, nil
}

// init makes the data folder. PostgreSQL refuses to run as root, so root runs
// it as the user postgres that comes with the package.
func (pg *PG) init() error {
	var err error
	if pg.Port, err = freePort(); err != nil {
		return err
	}
	passwordFile := filepath.Join(pg.folder, "password")
	if err := os.WriteFile(passwordFile, []byte(pg.Password), 0o600); err != nil {
		return fmt.Errorf("write password: %w", err)
	}
	if os.Geteuid() == 0 {
		if pg.credential, err = credentialOf("postgres"); err != nil {
			return err
		}
		for _, path := range []string{pg.folder, passwordFile} {
			if err := os.Chown(path, int(pg.credential.Uid), int(pg.credential.Gid)); err != nil {
				return fmt.Errorf("give PostgreSQL its folder: %w", err)
			}
		}
	}
	initdb := exec.Command(filepath.Join(pg.bin, "initdb"), "--pgdata", pg.Folder(), "--username", pg.User,
		"--pwfile", passwordFile, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	initdb.Dir = "/"
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: pg.credential}
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func credentialOf(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("find the user PostgreSQL runs as: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("uid of %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("gid of %s: %w", name, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// Folder returns the data folder.
func (pg *PG) Folder() string { return filepath.Join(pg.folder, "data") }

// WriteFile puts a file such as pg_hba.conf into the data folder, so that the
// server may read it. It takes effect with Reload.
func (pg *PG) WriteFile(tb testing.TB, name string, content []byte) {
	tb.Helper()
	path := filepath.Join(pg.Folder(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	if pg.credential == nil {
		return
	}
	if err := os.Chown(path, int(pg.credential.Uid), int(pg.credential.Gid)); err != nil {
		tb.Fatal(err)
	}
}

// Addr returns host:port.
func (pg *PG) Addr() string { return net.JoinHostPort(pg.Host, strconv.Itoa(pg.Port)) }

// Start starts the server on the port it always had and returns when it
// answers. It does nothing if the server runs.
func (pg *PG) Start() error {
	args := append([]string{
		"-D", pg.Folder(), "-p", strconv.Itoa(pg.Port), "-h", pg.Host, "-k", pg.folder,
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
		"-c", "shared_buffers=32MB", "-c", "max_connections=60", "-c", "autovacuum=off",
	}, pg.settings...)
	return pg.start(pg.credential, func() error { return pg.run("SELECT 1") }, filepath.Join(pg.bin, "postgres"), args...)
}

// Stop ends the server at once: clients lose their connections.
func (pg *PG) Stop() error { return pg.stop(syscall.SIGINT) }

// Kill ends the server and all its children without a word, as a machine does
// that loses its power. What was not checkpointed may be lost.
func (pg *PG) Kill() error {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.process == nil {
		return nil
	}
	p := pg.process
	pg.process = nil
	// The process counts as ended when its children have closed its output.
	main := p.cmd.Process.Pid
	return errors.Join(signal(syscall.SIGKILL, append([]int{main}, children(main)...)...), p.stop(syscall.SIGKILL))
}

// children returns the processes whose parent is pid.
func children(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []int
	for _, path := range stats {
		fields := statFields(path)
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

// Remove ends the server and removes its folder.
func (pg *PG) Remove() error {
	return errors.Join(pg.Stop(), os.RemoveAll(pg.folder))
}

// connect opens a connection as the superuser, in no pool.
func (pg *PG) connect(ctx context.Context, database string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(fmt.Sprintf(
		"host=%s port=%d user=%s dbname=%s sslmode=disable application_name=e2e", pg.Host, pg.Port, pg.User, database))
	if err != nil {
		return nil, fmt.Errorf("connect as superuser: %w", err)
	}
	cfg.Password = pg.Password
	return pgconn.ConnectConfig(ctx, cfg)
}

// run runs statements in one batch, outside a transaction if it is one.
func (pg *PG) run(sql string) error {
	_, err := pg.query("postgres", sql)
	return err
}

func (pg *PG) query(database, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	c, err := pg.connect(ctx, database)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", sql, err)
	}
	var rows [][]string
	for _, r := range results {
		for _, values := range r.Rows {
			row := make([]string, len(values))
			for i, v := range values {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// Exec runs statements as the superuser.
func (pg *PG) Exec(tb testing.TB, statements ...string) {
	tb.Helper()
	for _, sql := range statements {
		if err := pg.run(sql); err != nil {
			tb.Fatal(err)
		}
	}
}

// Begin runs statements as the superuser in a transaction that is open until
// commit is called, or the test ends without it.
func (pg *PG) Begin(tb testing.TB, statements ...string) (commit func()) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	c, err := pg.connect(ctx, "postgres")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close(ctx) })
	run := func(sql string) {
		tb.Helper()
		if _, err := c.Exec(ctx, sql).ReadAll(); err != nil {
			tb.Fatalf("run %s: %v", sql, err)
		}
	}
	run("BEGIN")
	for _, sql := range statements {
		run(sql)
	}
	return func() { tb.Helper(); run("COMMIT") }
}

// ExecIn runs statements as the superuser in a database other than postgres.
func (pg *PG) ExecIn(tb testing.TB, database string, statements ...string) {
	tb.Helper()
	for _, sql := range statements {
		if _, err := pg.query(database, sql); err != nil {
			tb.Fatal(err)
		}
	}
}

// Query returns the rows of a query that reads, run as the superuser, as psql
// shows them; NULL is empty. A server that recovers from a crash ends all its
// connections for a moment, so the query is asked again until it answers.
func (pg *PG) Query(tb testing.TB, sql string) (rows [][]string) {
	tb.Helper()
	Eventually(tb, sql, func() bool {
		var err error
		rows, err = pg.query("postgres", sql)
		var said *pgconn.PgError
		if errors.As(err, &said) && !strings.HasPrefix(said.Code, operatorIntervention) {
			tb.Fatal(err)
		}
		return err == nil
	})
	return rows
}

// operatorIntervention is the class of SQLSTATEs with which a server that
// stops, starts or recovers turns clients away.
const operatorIntervention = "57P"

// Connections returns how many connections applications of this name have.
func (pg *PG) Connections(tb testing.TB, application string) int {
	tb.Helper()
	return pg.count(tb, application, "")
}

// Running returns how many of them are inside a query or transaction, be it
// that they only prepare it.
func (pg *PG) Running(tb testing.TB, application string) int {
	tb.Helper()
	return pg.count(tb, application, " AND state <> 'idle'")
}

// Sleeping returns how many of them execute pg_sleep: their query has its
// snapshot, and what stands before it was answered.
func (pg *PG) Sleeping(tb testing.TB, application string) int {
	tb.Helper()
	return pg.count(tb, application, " AND wait_event = 'PgSleep'")
}

func (pg *PG) count(tb testing.TB, application, and string) int {
	tb.Helper()
	quoted := "'" + strings.ReplaceAll(application, "'", "''") + "'"
	rows := pg.Query(tb, "SELECT count(*) FROM pg_stat_activity WHERE application_name = "+quoted+and)
	n, err := strconv.Atoi(rows[0][0])
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// Reload makes the server read pg_hba.conf and certificates again.
func (pg *PG) Reload(tb testing.TB) {
	tb.Helper()
	const loaded = "SELECT pg_conf_load_time()::text"
	before := pg.Query(tb, loaded)[0][0]
	pg.Exec(tb, "SELECT pg_reload_conf()")
	Eventually(tb, "PostgreSQL reloads its configuration", func() bool { return pg.Query(tb, loaded)[0][0] != before })
}
