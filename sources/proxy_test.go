package sources_test

import (
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"sql2metrics/config"
)

// proxy passes on what goes to and from a server, and counts round trips: how
// often the client speaks after the server has.
type proxy struct {
	net.Listener
	target string

	mu           sync.Mutex
	conns        []net.Conn
	serverSpoke  bool
	trips, dials int
	work         sync.WaitGroup
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, target: target}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.work.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.dials++
		p.serverSpoke = true
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.work.Go(func() { p.pass(server, client, false) })
		p.work.Go(func() { p.pass(client, server, true) })
	}
}

func (p *proxy) pass(to, from net.Conn, fromServer bool) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			if !fromServer && p.serverSpoke {
				p.trips++
			}
			p.serverSpoke = fromServer
			p.mu.Unlock()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut closes every connection through the proxy.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// counts returns round trips and connections so far.
func (p *proxy) counts() (trips, dials int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trips, p.dials
}

// through returns c with l in the server's place.
func through(t testing.TB, c config.Source, l net.Listener) config.Source {
	t.Helper()
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Host = host
	if c.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	if c.URL != nil {
		u := *c.URL
		u.Host = l.Addr().String()
		c.URL = &u
	}
	return c
}

// fakeServer answers each connection with serve, which ends when its
// connection does. All end with the test.
func fakeServer(t testing.TB, serve func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		conns []net.Conn
		work  sync.WaitGroup
	)
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			work.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return l
}

// swallow reads until the connection ends.
func swallow(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// wantOneRoundTrip checks that a query on a connection that is there costs one
// round trip to the server at target, however it ends.
func wantOneRoundTrip(t *testing.T, c config.Source, target string, statements map[string]string) {
	p := startProxy(t, target)
	c = through(t, c, p)
	c.MaxConnections = 1
	s := open(t, c)
	for name, sql := range statements {
		t.Run(name, func(t *testing.T) {
			_ = s.Query(t.Context(), query(sql), ignore) // warms up
			before, dials := p.counts()
			_ = s.Query(t.Context(), query(sql), ignore)
			after, redials := p.counts()
			if after-before != 1 || redials != dials {
				t.Errorf("%d round trips, %d new connections", after-before, redials-dials)
			}
		})
	}
}

// relay passes on what goes to and from a server, of which said gets what the
// server says, until both sides have ended.
func relay(client net.Conn, target string, said io.Writer) {
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	var asking sync.WaitGroup
	asking.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	_, _ = io.Copy(client, io.TeeReader(server, said))
	_ = client.Close()
	asking.Wait()
}
