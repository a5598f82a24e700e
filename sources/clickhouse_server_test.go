package sources_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// A query whose connection hears nothing any more is killed by its id, on a
// connection of its own.
func TestClickHouseKillsWhatOutlives(t *testing.T) {
	t.Parallel()
	ch := servers.ClickHouseServer(t, reader)
	var connections atomic.Int32
	var asked atomic.Bool // the slow query, where the login has queries of its own
	ended := make(chan struct{})
	deaf := fakeServer(t, func(c net.Conn) {
		server, err := net.Dial("tcp", ch.Addr())
		if err != nil {
			return
		}
		defer server.Close()
		go func() { _, _ = io.Copy(c, server) }()
		if connections.Add(1) > 1 {
			_, _ = io.Copy(server, c)
			return
		}
		// What follows the slow query is swallowed, and nobody hangs up.
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			_, _ = server.Write(buf[:n])
			if strings.Contains(string(buf[:n]), "system.numbers") {
				asked.Store(true)
				swallow(c)
				break
			}
		}
		<-ended
	})
	t.Cleanup(func() { close(ended) })
	c := through(t, readerSource(ch, config.ProtocolNative), deaf)
	c.MaxConnections, c.Timeout = 1, 30*time.Second
	s := open(t, c)
	q := query("SELECT number FROM system.numbers WHERE number + 1 = 0")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Query(ctx, q, ignore) }()
	servers.Eventually(t, "the query runs", func() bool { return asked.Load() && ch.Running(t, reader.Name) == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	servers.Eventually(t, "the query has left", func() bool { return ch.Running(t, reader.Name) == 0 })
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want one beyond the cap", n)
	}
}

// A server that answers and never ends holds the caller up for a bounded time,
// also when it takes no order to kill the query: that goes on beside.
func TestClickHouseThatNeverEnds(t *testing.T) {
	const revision = 54460
	progress := func(b *chproto.Buffer) {
		chproto.ServerCodeProgress.Encode(b)
		chproto.Progress{Rows: 1}.EncodeAware(b, revision)
	}
	empty := func(b *chproto.Buffer) {
		encodeData(t, b, chproto.ServerCodeData, revision, chproto.InputColumn{Name: "n", Data: new(chproto.ColInt64)})
	}
	for name, packet := range map[string]func(*chproto.Buffer){"progress": progress, "empty blocks": empty} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var connections atomic.Int32
			killing, hungUp := make(chan struct{}), make(chan struct{})
			l := fakeServer(t, func(c net.Conn) {
				if connections.Add(1) > 1 {
					close(killing)
					swallow(c)
					close(hungUp)
					return
				}
				speak(t, c, revision, func(first *chproto.Buffer) {
					var b chproto.Buffer
					packet(&b)
					for packets := append(first.Buf, b.Buf...); ; packets = b.Buf {
						if _, err := c.Write(packets); err != nil {
							return
						}
					}
				})
			})
			c := through(t, config.Source{Name: "ch", Type: config.TypeClickHouse, User: "u", Compression: "none", MaxConnections: 1, Timeout: 30 * time.Second}, l)
			s := open(t, c)
			q := query("SELECT n")
			q.Timeout = 100 * time.Millisecond
			err := answered(t, s, q, ignore)
			if err == nil || !strings.Contains(err.Error(), "query timed out after 100ms") {
				t.Errorf("error is %v", err)
			}
			<-killing
			select {
			case <-hungUp:
				t.Error("the query was given up for killed with the caller")
			default:
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			<-hungUp
		})
	}
}

// The first address at which a server answers is taken. One that refuses the
// login is not answered by asking the next.
func TestClickHouseFailover(t *testing.T) {
	eachProtocol(t, func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol) {
		t.Parallel() // half of the time goes to the one that says nothing
		c := chSource(ch, protocol, "reader0")
		live := startProxy(t, net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
		silent := fakeServer(t, swallow)
		closing := fakeServer(t, func(net.Conn) {})
		c.Host, c.Port = "", 0
		c.Addresses = []string{"127.0.0.1:1", closing.Addr().String(), silent.Addr().String(), live.Addr().String()}
		s := open(t, c)
		if got := read(t, s, "SELECT 1"); !cmp.Equal(got, []string{"1"}) {
			t.Errorf("got %v", got)
		}

		c.Addresses = []string{"127.0.0.1:1", live.Addr().String(), live.Addr().String()}
		c.Password = config.NewSecret("wrong")
		_, before := live.counts()
		err := open(t, c).Query(t.Context(), query("SELECT 1"), ignore)
		if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1 as user reader0") || !strings.Contains(err.Error(), "check user and password") {
			t.Errorf("error is %v", err)
		}
		if _, after := live.counts(); after != before+1 {
			t.Errorf("%d logins were tried, want one", after-before)
		}
	})
}

func TestClickHouseTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	cert, key := ca.issue(t, "db.example")
	ch := servers.ClickHouseTLS(t, tempFile(t, cert), tempFile(t, key), reader)
	for name, test := range map[string]struct {
		tls  config.TLS
		port int
		want string // part of the error
	}{
		"require":            {config.TLS{Mode: "require"}, ch.SecurePort, ""},
		"verify-ca":          {config.TLS{Mode: "verify-ca", CAFile: ca.file}, ch.SecurePort, ""},
		"verify-full":        {config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.example"}, ch.SecurePort, ""},
		"another name":       {config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.other"}, ch.SecurePort, "set tls_config.server_name"},
		"another authority":  {config.TLS{Mode: "verify-full", CAFile: other.file, ServerName: "db.example"}, ch.SecurePort, "check tls_config.ca_file"},
		"a port without TLS": {config.TLS{Mode: "require"}, ch.Port, "the port has no TLS"},
		"no TLS at its port": {config.TLS{Mode: "disable"}, ch.SecurePort, "port"},
	} {
		t.Run(name, func(t *testing.T) {
			c := readerSource(ch, config.ProtocolNative)
			c.TLS, c.Port = test.tls, test.port
			err := open(t, c).Query(t.Context(), query("SELECT 1"), ignore)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error is %v, want %s", err, test.want)
			}
		})
	}

	t.Run("files are read again", func(t *testing.T) {
		file := tempFile(t, pemBlock("CERTIFICATE", other.cert.Raw))
		c := readerSource(ch, config.ProtocolNative)
		c.TLS, c.Port = config.TLS{Mode: "verify-ca", CAFile: file}, ch.SecurePort
		s := open(t, c)
		if err := s.Ping(t.Context()); err == nil {
			t.Error("a certificate of another authority is taken")
		}
		if err := os.WriteFile(file, pemBlock("CERTIFICATE", ca.cert.Raw), 0o600); err != nil {
			t.Fatal(err)
		}
		servers.Eventually(t, "the new authority is trusted", func() bool { return s.Ping(t.Context()) == nil })
	})
}

func TestClickHouseStartupSQL(t *testing.T) {
	ch := sharedClickHouse.Get(t)
	c := chSource(ch, config.ProtocolNative, "reader2")
	c.StartupSQL = []string{"SET max_threads = 3", "SET max_block_size = 777"}
	got := read(t, open(t, c), "SELECT value FROM system.settings WHERE name IN ('max_threads', 'max_block_size') ORDER BY name")
	if diff := cmp.Diff([]string{"777", "3"}, got); diff != "" {
		t.Error(diff)
	}
	c.StartupSQL = []string{"SET nothing = 3"}
	if err := open(t, c).Ping(t.Context()); !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "startup_sql") {
		t.Errorf("error is %v", err)
	}
}
