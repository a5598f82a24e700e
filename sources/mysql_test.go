package sources_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/relabel"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// documented are the grants of the account that docs/configuration.md says to
// make on MariaDB.
const documented = "SELECT, PROCESS, BINLOG MONITOR, SLAVE MONITOR"

func TestMySQLForms(t *testing.T) {
	m := sharedMariaDB.Get(t)
	user := m.Account(t, documented)
	dsn := func(format string, args ...any) config.Source {
		c := mysqlSource(m, "")
		c.Host, c.Port, c.Database, c.TLS = "", 0, "", config.TLS{}
		c.DSN = config.NewSecret(fmt.Sprintf(format, args...))
		return c
	}
	socket := mysqlSource(m, user)
	socket.Host, socket.Port = m.Socket, 0
	nowhere := mysqlSource(m, user)
	nowhere.Database = ""
	inside := dsn("%s:%s@tcp(%s)/app", user, m.Password, m.Addr())
	inside.Password = config.Secret{}
	file := dsn("%s:wrong@tcp(%s)/app", user, m.Addr())
	file.PasswordFile = tempFile(t, []byte(m.Password+"\n"))
	for name, c := range map[string]struct {
		source config.Source
		want   string
	}{
		"fields":                 {mysqlSource(m, user), user + "|app|2|utf8mb4"},
		"socket":                 {socket, user + "|app|2|utf8mb4"},
		"no database":            {nowhere, user + "||2|utf8mb4"},
		"dsn":                    {inside, user + "|app|2|utf8mb4"},
		"dsn, password beside":   {dsn("%s@tcp(%s)/app", user, m.Addr()), user + "|app|2|utf8mb4"},
		"dsn, password_file":     {file, user + "|app|2|utf8mb4"},
		"dsn, socket":            {dsn("%s@unix(%s)/app", user, m.Socket), user + "|app|2|utf8mb4"},
		"dsn, variables":         {dsn("%s@tcp(%s)/?lock_wait_timeout=7&parseTime=true", user, m.Addr()), user + "||7|utf8mb4"},
		"dsn, writes of its own": {dsn("%s@tcp(%s)/?autocommit=0&lock_wait_timeout=7", user, m.Addr()), user + "||7|utf8mb4"},
		"dsn, autocommit":        {dsn("%s@tcp(%s)/?AutoCommit=0&Lock_Wait_Timeout=7", user, m.Addr()), user + "||7|utf8mb4"},
		"dsn, texts":             {dsn("%s@tcp(%s)/?time_zone=%%27%%2B00:00%%27&sql_mode=%%22ANSI,TRADITIONAL%%22", user, m.Addr()), user + "||2|utf8mb4"},
		"dsn, compressed":        {dsn("%s@tcp(%s)/app?compress=true", user, m.Addr()), user + "|app|2|utf8mb4"},
	} {
		t.Run(name, func(t *testing.T) {
			got := read(t, open(t, c.source), "SELECT SUBSTRING_INDEX(USER(), '@', 1), DATABASE(), @@lock_wait_timeout, @@character_set_results FROM DUAL WHERE @@autocommit AND @@tx_read_only")
			if !cmp.Equal(got, []string{c.want}) {
				t.Errorf("connected as %v, want %s", got, c.want)
			}
		})
	}
}

// What a data_source_name sets is the session's.
func TestMySQLDSNSetsNoGlobals(t *testing.T) {
	for name, parameters := range map[string]string{
		"name":            "GLOBAL max_connections=99",
		"escaped name":    "GLOBAL%20max_connections=99",
		"variable":        "@@global.max_connections=99",
		"value":           "sql_mode=1, GLOBAL max_connections=99",
		"escaped value":   "sql_mode=1%2C%20GLOBAL%20max_connections%3D99",
		"expression":      "sql_mode=get_lock('a',1)",
		"end of a text":   "sql_mode='a', GLOBAL max_connections='99'",
		"escape in texts": "sql_mode='a%5C', GLOBAL max_connections='99'",
		"comment":         "sql_mode=1/*!,GLOBAL max_connections=99*/",
		"password":        "password='x'",
		"collation":       "collation=utf8mb4_bin,GLOBAL max_connections=99",
	} {
		c := config.Source{Name: "maria", Type: config.TypeMySQL, DSN: config.NewSecret("u:verysecret@tcp(127.0.0.1:1)/?" + parameters)}
		s, err := sources.Open(c, sources.Options{})
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "data_source_name") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestMySQLStatementNamesItself(t *testing.T) {
	m := sharedMariaDB.Get(t)
	c := mysqlSource(m, m.Account(t, documented))
	c.Name = "evil */ DROP /* 'ü"
	q := query("SELECT info FROM information_schema.processlist WHERE id = CONNECTION_ID()")
	q.Name, q.Timeout = "*/ SELECT 1 /*", 25500*time.Millisecond-1 // a part of a millisecond counts as one
	err := open(t, c).Query(t.Context(), q, func(r *sources.Row) error {
		const want = "SET STATEMENT max_statement_time=25.500 FOR /* sql2metrics source=evil____DROP______ query=___SELECT_1___ */ SELECT info"
		if got := line(r); !strings.HasPrefix(got, want) {
			t.Errorf("the server sees %s", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestMySQLOneRoundTrip(t *testing.T) {
	m := sharedMariaDB.Get(t)
	wantOneRoundTrip(t, mysqlSource(m, m.Account(t, documented)), m.Addr(), map[string]string{
		"small":   "SELECT 1",
		"large":   "SELECT seq, repeat('x', 100) FROM seq_1_to_20000",
		"failing": "SELECT 9223372036854770000 + CAST(seq AS SIGNED) FROM seq_1_to_20000",
		"wrong":   "SELECT nothing",
	})
}

// Under the documented account nothing writes, whoever refuses it.
func TestMySQLAccountCannotWrite(t *testing.T) {
	m := sharedMariaDB.Get(t)
	mysqlTables(t, m)
	s := open(t, mysqlSource(m, m.Account(t, documented)))
	out := filepath.Join(m.Folder(), "made")
	before, limit := mysqlKept(t, m), m.Query(t, "SELECT @@GLOBAL.max_connections")
	for _, sql := range []string{
		"INSERT INTO kept VALUES (3)",
		"REPLACE INTO kept VALUES (3)",
		"UPDATE kept SET v = 7",
		"CREATE TABLE made (v int)",
		"CREATE TEMPORARY TABLE made (v int)",
		"DROP TABLE kept",
		"TRUNCATE kept",
		"SELECT 1; DROP TABLE kept",
		"SET GLOBAL max_connections = 7",
		"SET STATEMENT tx_read_only = 0 FOR INSERT INTO kept VALUES (3)",
		"SELECT * FROM kept INTO OUTFILE '" + out + "'",
		"SELECT 1 INTO DUMPFILE '" + out + "'",
		"SELECT * FROM kept LIMIT 1 INTO @v, @w",
		"LOAD DATA INFILE '/etc/passwd' INTO TABLE kept",
		"CALL writes()",
		"SELECT writing()",
		"SELECT NEXTVAL(numbers)",
		"/*!50000 DROP TABLE kept */",
		"LOCK TABLES kept WRITE",
		"FLUSH TABLES WITH READ LOCK",
		"KILL 1",
		"SHUTDOWN",
		"DO GET_LOCK('a', 1)",
		"ANALYZE TABLE kept",
		"OPTIMIZE TABLE kept",
		"INSTALL SONAME 'auth_ed25519'",
		"XA START 'x'",
		"BEGIN",
		"HANDLER kept OPEN",
		"EXECUTE IMMEDIATE 'DROP TABLE kept'",
	} {
		if err := s.Query(t.Context(), query(sql), ignore); err == nil {
			t.Errorf("%s: no error", sql)
		}
	}
	if after := mysqlKept(t, m); after != before {
		t.Errorf("the schema held %s, holds %s", before, after)
	}
	if now := m.Query(t, "SELECT @@GLOBAL.max_connections"); !cmp.Equal(now, limit) {
		t.Errorf("max_connections is %v, was %v", now, limit)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("a file was written: %v", err)
	}
}

// Locks would hold the application up, or the next run on another connection.
func TestMySQLLeavesNoLocks(t *testing.T) {
	m := sharedMariaDB.Get(t)
	mysqlTables(t, m)
	user := m.Account(t, documented)
	s := open(t, mysqlSource(m, user))
	for name, sql := range map[string]string{
		"named":  "SELECT GET_LOCK('sql2metrics', 1)",
		"failed": "SELECT `get_lock`('sql2metrics', 1), (SELECT v FROM kept)",
		"rows":   "SELECT * FROM kept FOR UPDATE",
		"shared": "SELECT * FROM kept LOCK IN SHARE MODE",
	} {
		t.Run(name, func(t *testing.T) {
			err := s.Query(t.Context(), query(sql), ignore)
			if refused := err != nil && strings.Contains(err.Error(), "1792"); refused != (name == "rows") {
				t.Errorf("error is %v", err)
			}
			servers.Eventually(t, "the lock is given up", func() bool {
				return m.Query(t, "SELECT IS_FREE_LOCK('sql2metrics')")[0][0] == "1" && m.Running(t, user) == 0
			})
			// The server's own threads lock a table for a moment; what we left would stay.
			m.Exec(t, "SET lock_wait_timeout = 20, innodb_lock_wait_timeout = 20", "UPDATE kept SET v = v + 0", "ALTER TABLE kept COMMENT ''")
		})
	}
}

// A query waits for a lock that the application holds only for a moment.
func TestMySQLWaitsForNoLock(t *testing.T) {
	m := sharedMariaDB.Get(t)
	user := m.Account(t, documented)
	s := open(t, mysqlSource(m, user))
	m.Exec(t, "CREATE OR REPLACE TABLE locked (v int)")
	held, release := make(chan struct{}), make(chan struct{})
	var holder sync.WaitGroup
	holder.Go(func() { m.Hold(t, "LOCK TABLES locked WRITE", held, release) })
	<-held
	err := s.Query(t.Context(), query("SELECT * FROM locked"), ignore)
	close(release)
	holder.Wait()
	if err == nil || !strings.Contains(err.Error(), "Lock wait timeout exceeded") {
		t.Errorf("error is %v", err)
	}
}

// killPatience is how long a kill may take before the connection of its query is
// given up.
const killPatience = 2 * time.Second

// The kill needs a connection beyond max_connections, and leaves that of the
// query as it was.
func TestMySQLKillsOutsideTheCap(t *testing.T) {
	m := sharedMariaDB.Get(t)
	user := m.Account(t, documented)
	c := mysqlSource(m, user)
	c.MaxConnections = 1
	s := open(t, c)
	id := read(t, s, "SELECT CONNECTION_ID()")
	for kept, round := 0, 1; kept < 3; round++ {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Query(ctx, query("SELECT SLEEP(600)"), ignore) }()
		servers.Eventually(t, "the query runs", func() bool { return m.Running(t, user) > 0 })
		cancelled := time.Now()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		took := time.Since(cancelled)
		servers.Eventually(t, "the query has left", func() bool { return m.Running(t, user) == 0 })
		switch got := read(t, s, "SELECT CONNECTION_ID()"); {
		case cmp.Equal(got, id):
			kept++
		case took < killPatience || round == 10:
			t.Fatalf("the connection is %v, was %v; the kill took %v", got, id, took)
		default:
			id = got
		}
	}
	servers.Eventually(t, "the killing connections are gone", func() bool { return m.Connections(t, user) == 1 })
}

// A function that takes the server's kill for an early end has run for too long
// all the same.
func TestMySQLEarlyEnd(t *testing.T) {
	m := sharedMariaDB.Get(t)
	user := m.Account(t, documented)
	s := open(t, mysqlSource(m, user))
	q := query("SELECT BENCHMARK(1000000000000, MD5(1))")
	q.Timeout = 200 * time.Millisecond
	if err := s.Query(t.Context(), q, ignore); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("over its limit: error is %v", err)
	}
	id := read(t, s, "SELECT CONNECTION_ID()")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	q.Timeout = time.Minute
	go func() { done <- s.Query(ctx, q, ignore) }()
	servers.Eventually(t, "the function runs", func() bool {
		return len(m.Query(t, "SELECT id FROM information_schema.processlist WHERE state = 'Executing' AND info LIKE '%BENCHMARK%' AND user = '"+user+"'")) > 0
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error is %v", err)
	}
	// The kill may have come when there was nothing to kill any more.
	if got := read(t, s, "SELECT CONNECTION_ID()"); cmp.Equal(got, id) {
		t.Errorf("connection %v is used again after a kill that it did not tell of", got)
	}
	servers.Eventually(t, "the query has left", func() bool { return m.Running(t, user) == 0 })
}

// What a DBA kills, failed; it is not run again.
func TestMySQLKilledByOthers(t *testing.T) {
	m := sharedMariaDB.Get(t)
	user := m.Account(t, documented)
	s := open(t, mysqlSource(m, user))
	for kill, want := range map[string]string{"KILL QUERY ": "1317", "KILL ": "the server's log"} {
		for _, pooled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, pooled %v", kill, pooled), func(t *testing.T) {
				if pooled {
					read(t, s, "SELECT 1")
				}
				done := make(chan error)
				go func() { done <- s.Query(t.Context(), query("SELECT SLEEP(600)"), ignore) }()
				var ids [][]string
				servers.Eventually(t, "the query runs", func() bool {
					ids = m.Query(t, "SELECT id FROM information_schema.processlist WHERE info LIKE '%SLEEP(600)' AND user = '"+user+"'")
					return len(ids) > 0
				})
				m.Exec(t, kill+ids[0][0])
				err := <-done
				if err == nil || errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), want) {
					t.Fatalf("error is %v, want a query's with %q", err, want)
				}
				wantOnce(t, err, "maria")
				read(t, s, "SELECT 1")
				// The next kill is not meant for what the server still lists.
				servers.Eventually(t, "the killed query has left", func() bool { return m.Running(t, user) == 0 })
			})
		}
	}
}

// One row cannot make the agent allocate without bound.
func TestMySQLRowLimit(t *testing.T) {
	m := sharedMariaDB.Get(t)
	c := mysqlSource(m, m.Account(t, documented))
	c.MaxResultBytes = 1 << 20
	s := open(t, c)
	read(t, s, "SELECT repeat('x', 10000) FROM seq_1_to_50")
	for _, sql := range []string{"SELECT repeat('x', 15000000)", "SELECT repeat('x', 10000) FROM seq_1_to_500"} {
		err := s.Query(t.Context(), query(sql), ignore)
		if err == nil || errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "limit of 1048576 bytes") {
			t.Errorf("error is %v", err)
		}
		read(t, s, "SELECT 1")
	}
}

func TestMySQLRequires(t *testing.T) {
	m := sharedMariaDB.Get(t)
	s := open(t, mysqlSource(m, m.Account(t, documented)))
	for name, test := range map[string]struct {
		requires config.Requires
		missing  string
	}{
		"primary":     {config.Requires{Role: config.RolePrimary}, ""},
		"replica":     {config.Requires{Role: config.RoleReplica}, "role replica"},
		"plugin":      {config.Requires{Extensions: []string{"InnoDB"}}, ""},
		"no plugin":   {config.Requires{Extensions: []string{"rocksdb"}}, "extension rocksdb"},
		"mariadb":     {config.Requires{Version: config.VersionRange{Product: "mariadb", Bounds: []config.VersionBound{{Operator: ">=", Parts: []int{10, 5}}}}}, ""},
		"mysql":       {config.Requires{Version: config.VersionRange{Product: "mysql", Bounds: []config.VersionBound{{Operator: ">=", Parts: []int{5}}}}}, "mysql"},
		"too old":     {config.Requires{Version: config.VersionRange{Bounds: []config.VersionBound{{Operator: ">=", Parts: []int{99}}}}}, "server_version"},
		"old enough":  {config.Requires{Version: config.VersionRange{Bounds: []config.VersionBound{{Operator: "<", Parts: []int{99}}}}}, ""},
		"two of them": {config.Requires{Role: config.RolePrimary, Extensions: []string{"InnoDB", "CSV"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			q := query("SELECT 1")
			q.Requires = test.requires
			err := s.Query(t.Context(), q, ignore)
			var closed *sources.NotApplicableError
			if test.missing == "" && err != nil || test.missing != "" && (!errors.As(err, &closed) || !strings.Contains(err.Error(), test.missing)) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// Every schema that the account may see, but for the server's own; the database
// beside the pattern is where the list comes from.
func TestMySQLFanout(t *testing.T) {
	m := sharedMariaDB.Get(t)
	user := m.Account(t, "USAGE")
	for i, schema := range []string{"shop_a", "shop_b", "shop_hidden", "other"} {
		m.Exec(t, "CREATE OR REPLACE DATABASE "+schema, fmt.Sprintf("CREATE TABLE %s.here AS SELECT %d AS v", schema, i+1))
		if schema != "shop_hidden" {
			m.Exec(t, "GRANT SELECT ON "+schema+".* TO "+user)
		}
	}
	c := mysqlSource(m, user)
	c.Database = ""
	c.Databases = &config.Databases{Include: relabel.MustNewRegexp("shop_.*"), Label: "schema"}
	byDSN := c
	byDSN.Host, byDSN.Port, byDSN.User = "", 0, ""
	byDSN.DSN = config.NewSecret(user + "@tcp(" + m.Addr() + ")/other")
	all := c
	all.Databases = &config.Databases{Label: "schema"}
	for name, test := range map[string]struct {
		source config.Source
		want   []string
	}{
		"fields":           {c, []string{"1|shop_a|shop_a", "2|shop_b|shop_b"}},
		"data source name": {byDSN, []string{"1|shop_a|shop_a", "2|shop_b|shop_b"}},
		"all":              {all, []string{"1|shop_a|shop_a", "2|shop_b|shop_b", "4|other|other"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, test.source)
			got, err := fan(t, s, "SELECT v, DATABASE() AS d FROM here")
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("rows differ (-want +got):\n%s%v", diff, err)
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			// A connection stays in the server's list for a moment after its end.
			servers.Eventually(t, "the connections are within the cap", func() bool {
				return m.Connections(t, user) <= test.source.MaxConnections
			})
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			servers.Eventually(t, "the connections are gone", func() bool { return m.Connections(t, user) == 0 })
		})
	}
}
