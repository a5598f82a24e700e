package sources_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

func TestRedisAddresses(t *testing.T) {
	r := servers.Redis(t, "databases 20")
	r.Exec(t, "SET k plain")
	for name, test := range map[string]struct {
		change func(*config.Source)
		want   string // or part of the error
	}{
		"socket":                {func(c *config.Source) { c.Host, c.Port = r.Socket(), 0 }, "plain"},
		"database":              {func(c *config.Source) { c.Database = "0" }, "plain"},
		"another database":      {func(c *config.Source) { c.Database = "17" }, ""},
		"database out of range": {func(c *config.Source) { c.Database = "20" }, "select database 20"},
		"several":               {func(c *config.Source) { c.Addresses = []string{"127.0.0.1:1", r.Addr()} }, "plain"},
		"none there":            {func(c *config.Source) { c.Addresses = []string{"127.0.0.1:1"} }, "is the server running"},
		"dsn":                   {func(c *config.Source) { c.Host, c.DSN = "", config.NewSecret("redis://"+r.Addr()+"/0") }, "plain"},
		"dsn of a database":     {func(c *config.Source) { c.Host, c.DSN = "", config.NewSecret("redis://"+r.Addr()+"/3") }, ""},
		"dsn of a socket":       {func(c *config.Source) { c.Host, c.DSN = "", config.NewSecret("unix://"+r.Socket()) }, "plain"},
		"dsn of an account":     {func(c *config.Source) { c.DSN = config.NewSecret("redis://nobody:verysecret@" + r.Addr()) }, "as user nobody: server answered: WRONGPASS"},
	} {
		t.Run(name, func(t *testing.T) {
			c := redisSource(r)
			test.change(&c)
			var got string
			err := open(t, c).Query(t.Context(), query("GET k"), func(r *sources.Row) error { got = line(r); return nil })
			if err != nil {
				got = err.Error()
			}
			if got != test.want && (err == nil || !strings.Contains(got, test.want)) || strings.Contains(got, "verysecret") {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestRedisTLS(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	cert, key := ca.issue(t, "db.example")
	r := servers.RedisTLS(t, tempFile(t, cert), tempFile(t, key), ca.file, "tls-auth-clients optional", "busy-reply-threshold 100")
	cert, key = ca.issue(t, "agent")
	certFile, keyFile := tempFile(t, cert), tempFile(t, key)
	full := config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.example"}
	withCert := full
	withCert.CertFile, withCert.KeyFile = certFile, keyFile
	for name, test := range map[string]struct {
		tls  config.TLS
		auth string // tls-auth-clients
		want string // part of the error
	}{
		"require":            {config.TLS{Mode: "require"}, "no", ""},
		"verify-ca":          {config.TLS{Mode: "verify-ca", CAFile: ca.file}, "no", ""},
		"verify-full":        {full, "no", ""},
		"other name":         {config.TLS{Mode: "verify-full", CAFile: ca.file}, "no", "set tls_config.server_name"},
		"other authority":    {config.TLS{Mode: "verify-ca", CAFile: other.file}, "no", "check tls_config.ca_file"},
		"client certificate": {withCert, "yes", ""},
		"no certificate":     {full, "yes", "connect to source cache"},
		"no file":            {config.TLS{Mode: "verify-ca", CAFile: "/no/such/file"}, "no", "read tls_config.ca_file /no/such/file"},
		"no TLS":             {config.TLS{Mode: "disable"}, "no", "connect to source cache"},
	} {
		t.Run(name, func(t *testing.T) {
			r.Exec(t, "CONFIG SET tls-auth-clients "+test.auth)
			c := redisSource(r)
			c.TLS, c.Port = test.tls, r.SecurePort
			s := open(t, c)
			err := s.Query(t.Context(), query("PING"), ignore)
			if test.want == "" && err != nil || test.want != "" && (!errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error is %v, want %s", err, test.want)
			}
			if err != nil {
				return
			}
			q := query(`EVAL_RO "while true do end" 0`)
			q.Timeout = 100 * time.Millisecond
			if err := s.Query(t.Context(), q, ignore); err == nil {
				t.Error("no error")
			}
			servers.Eventually(t, "the script leaves the server", func() bool { return r.Running(t) == 0 })
			r.Exec(t, "CLIENT KILL TYPE normal SKIPME yes")
			read(t, s, "PING")
		})
	}
	t.Run("files are read again", func(t *testing.T) {
		r.Exec(t, "CONFIG SET tls-auth-clients no")
		c := redisSource(r)
		c.TLS, c.Port = config.TLS{Mode: "verify-ca", CAFile: tempFile(t, []byte("soon"))}, r.SecurePort
		now := time.Now()
		s, err := sources.OpenAt(c, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Ping(t.Context()); err == nil {
			t.Fatal("no error")
		}
		content, err := os.ReadFile(ca.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.TLS.CAFile, content, 0o600); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Hour)
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What answers in the place of a Redis server, and lies.
func TestRedisBadServer(t *testing.T) {
	// after takes the login and a command, and goes on with then.
	after := func(then func(net.Conn)) func(net.Conn) {
		return func(c net.Conn) {
			b := make([]byte, 1000)
			if _, err := c.Read(b); err != nil {
				return
			}
			fmt.Fprint(c, "%1\r\n+role\r\n+master\r\n")
			if _, err := c.Read(b); err == nil {
				then(c)
			}
		}
	}
	greet := func(behind string) func(net.Conn) {
		return after(func(c net.Conn) { fmt.Fprint(c, behind); swallow(c) })
	}
	// No stack is large enough for what the limit of bytes lets through.
	endless := func(text string) func(net.Conn) {
		many := strings.Repeat(text, 10000)
		return after(func(c net.Conn) {
			for {
				if _, err := fmt.Fprint(c, many); err != nil {
					return
				}
			}
		})
	}
	for name, serve := range map[string]func(net.Conn){
		"silent":             swallow,
		"closes":             func(net.Conn) {},
		"HTTP":               func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); swallow(c) },
		"zeroes":             func(c net.Conn) { _, _ = c.Write(make([]byte, 100000)); swallow(c) },
		"huge map at login":  func(c net.Conn) { fmt.Fprint(c, "%1000000000\r\n"); swallow(c) },
		"huge text at login": func(c net.Conn) { fmt.Fprint(c, "$1000000000\r\n"); swallow(c) },
		"maps at login":      func(c net.Conn) { fmt.Fprint(c, nestedMaps); swallow(c) },
		"huge list":          greet("*1000000000\r\n"),
		"huge text":          greet("$1000000000\r\n"),
		"endless line":       endless("x"),
		"endless lists":      endless("*1\r\n"),
		"endless maps":       endless("%4611686018427387904\r\n"),
		"endless attributes": endless("|0\r\n"),
		"part of a row":      after(func(c net.Conn) { fmt.Fprint(c, "*2\r\n$5\r\nhel") }),
		"attributes":         greet("|1\r\n" + strings.Repeat("*1\r\n", 1<<20)),
		"more than one":      greet("+PONG\r\n+PONG\r\n"),
		"no reply":           greet("what?\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := through(t, config.Source{Name: "cache", Type: config.TypeRedis, MaxConnections: 1, Timeout: time.Second}, fakeServer(t, serve))
			s := open(t, c)
			for range 2 {
				q := query("PING")
				q.Timeout = time.Second
				err := s.Query(t.Context(), q, ignore)
				if err == nil {
					t.Fatal("no error")
				}
				wantOnce(t, err, "cache")
			}
		})
	}
}
