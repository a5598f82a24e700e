package sources_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// A connection that ends in the middle of a result fails the query, which is not
// run again.
func TestMySQLCutInTheMiddle(t *testing.T) {
	m := sharedMariaDB.Get(t)
	p := startProxy(t, m.Addr())
	s := open(t, through(t, mysqlSource(m, m.Account(t, documented)), p))
	rows := 0
	err := s.Query(t.Context(), query("SELECT seq, repeat('x', 1000) FROM seq_1_to_100000"), func(*sources.Row) error {
		if rows++; rows == 100 {
			p.cut()
		}
		return nil
	})
	if err == nil || errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "connection ended during the statement") {
		t.Errorf("%d rows, error %v", rows, err)
	}
	wantOnce(t, err, "maria")
	if _, dials := p.counts(); dials != 1 {
		t.Errorf("%d connections", dials)
	}
	read(t, s, "SELECT 1")
}

func TestMySQLTLS(t *testing.T) {
	t.Parallel()
	m := servers.MySQL(t, "performance-schema=on")
	user := m.Account(t, documented)
	var attributes []string
	err := open(t, mysqlSource(m, user)).Query(t.Context(), query("SELECT attr_value FROM performance_schema.session_connect_attrs WHERE attr_name = 'program_name' AND processlist_id = CONNECTION_ID()"),
		func(r *sources.Row) error { attributes = append(attributes, line(r)); return nil })
	if err != nil || !cmp.Equal(attributes, []string{application}) {
		t.Errorf("the server knows us as %v, %v", attributes, err)
	}
	without := mysqlSource(m, user)
	without.TLS.Mode = "require"
	if err := open(t, without).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "the server has TLS off") {
		t.Errorf("a server without TLS: error is %v", err)
	}

	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	cert, key := ca.issue(t, "db.example")
	m.Exec(t, "CREATE USER certified REQUIRE X509", "CREATE USER encrypted REQUIRE SSL")
	if err := errors.Join(m.Stop(), m.Start(
		servers.Setting("ssl-cert="+m.WriteFile(t, "server.crt", cert)),
		servers.Setting("ssl-key="+m.WriteFile(t, "server.key", key)),
		servers.Setting("ssl-ca="+m.WriteFile(t, "ca.crt", pemBlock("CERTIFICATE", ca.cert.Raw))))); err != nil {
		t.Fatal(err)
	}
	cert, key = ca.issue(t, "client")
	certFile, keyFile := tempFile(t, cert), tempFile(t, key)
	for name, test := range map[string]struct {
		tls  config.TLS
		user string
		want string // whether TLS is on, or part of the error
	}{
		"prefer":                      {config.TLS{Mode: "prefer"}, "", "1"},
		"allow":                       {config.TLS{Mode: "allow"}, "", "0"},
		"allow, account wants it":     {config.TLS{Mode: "allow"}, "encrypted", "1"},
		"disable":                     {config.TLS{Mode: "disable"}, "", "0"},
		"disable, account wants it":   {config.TLS{Mode: "disable"}, "encrypted", "whether the account asks for TLS"},
		"require":                     {config.TLS{Mode: "require"}, "", "1"},
		"verify-ca":                   {config.TLS{Mode: "verify-ca", CAFile: ca.file}, "", "1"},
		"verify-ca, wrong authority":  {config.TLS{Mode: "verify-ca", CAFile: other.file}, "", "check tls_config.ca_file"},
		"verify-full, name of server": {config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.example"}, "", "1"},
		"verify-full, other name":     {config.TLS{Mode: "verify-full", CAFile: ca.file}, "", "set tls_config.server_name"},
		"verify-full, wrong ca":       {config.TLS{Mode: "verify-full", CAFile: other.file, ServerName: "db.example"}, "", "check tls_config.ca_file"},
		"missing ca file":             {config.TLS{Mode: "verify-full", CAFile: "/no/such/file"}, "", "/no/such/file"},
		"client certificate":          {config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.example", CertFile: certFile, KeyFile: keyFile}, "certified", "1"},
		"no client certificate":       {config.TLS{Mode: "require"}, "certified", "check user and password"},
	} {
		t.Run(name, func(t *testing.T) {
			c := mysqlSource(m, user)
			c.TLS = test.tls
			if test.user != "" {
				c.User, c.Password = test.user, config.Secret{}
			}
			var got []string
			err := open(t, c).Query(t.Context(), query("SELECT variable_value <> '' FROM information_schema.session_status WHERE variable_name = 'ssl_cipher'"), func(r *sources.Row) error {
				got = append(got, line(r))
				return nil
			})
			switch {
			case err == nil:
				if !cmp.Equal(got, []string{test.want}) {
					t.Errorf("TLS is %v, want %s", got, test.want)
				}
			case !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), test.want):
				t.Errorf("error is %v, want %s", err, test.want)
			}
		})
	}
	t.Run("cancel", func(t *testing.T) {
		c := mysqlSource(m, user)
		c.TLS = config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.example"}
		s := open(t, c)
		q := query("SELECT SLEEP(600)")
		q.Timeout = 100 * time.Millisecond
		if err := s.Query(t.Context(), q, ignore); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		servers.Eventually(t, "the query leaves the server", func() bool { return m.Running(t, user) == 0 })
	})
}

func TestMySQLRefusedLogins(t *testing.T) {
	m := sharedMariaDB.Get(t)
	m.Exec(t, "CREATE OR REPLACE USER lonely IDENTIFIED BY "+"'x'", "CREATE OR REPLACE USER locked ACCOUNT LOCK")
	for name, test := range map[string]struct {
		change     func(*config.Source)
		want, hint string
	}{
		"password": {func(c *config.Source) { c.Password = config.NewSecret("wrong") }, "Access denied", "check user and password"},
		"database": {func(c *config.Source) { c.Database = "nothing" }, "Unknown database", "check database"},
		"grant":    {func(c *config.Source) { c.User, c.Password = "lonely", config.NewSecret("x") }, "Access denied", "check database"},
		"locked":   {func(c *config.Source) { c.User, c.Password = "locked", config.Secret{} }, "locked", "have the account unlocked"},
		"socket":   {func(c *config.Source) { c.Host = "/no/such/socket" }, "no such file", ""},
		"startup":  {func(c *config.Source) { c.StartupSQL = []string{"SET @a = 1", "SET nothing = 1"} }, "statement 2 of startup_sql", ""},
		"closed":   {func(c *config.Source) { *c = through(t, *c, fakeServer(t, func(net.Conn) {})) }, "EOF", ""},
		"garbage": {func(c *config.Source) {
			*c = through(t, *c, fakeServer(t, func(n net.Conn) { _, _ = n.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); swallow(n) }))
			c.Timeout = 500 * time.Millisecond
		}, "", ""},
		"no answer": {func(c *config.Source) {
			*c = through(t, *c, fakeServer(t, swallow))
			c.Timeout = 100 * time.Millisecond
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := mysqlSource(m, m.Account(t, documented))
			test.change(&c)
			err := open(t, c).Query(t.Context(), query("SELECT 1"), ignore)
			if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.hint) {
				t.Errorf("error is %v", err)
			}
			if name == "no answer" && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error is %v, and tells of no timeout", err)
			}
			t.Log(err)
			wantOnce(t, err, "maria")
		})
	}
}
