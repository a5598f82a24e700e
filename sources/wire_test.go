package sources_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// eachServer runs test on every kind of source that a network lies before. The
// configuration names its server by host and port.
func eachServer(t *testing.T, test func(*testing.T, database)) {
	for name, prepare := range databases {
		if name == "sqlite" || name == "pgbouncer" {
			continue // no network, and one that postgres speaks too
		}
		t.Run(name, func(t *testing.T) {
			d := prepare(t).inSQL()
			if d.config.DSN.IsSet() {
				d.config = pgSource(shared.Get(t))
			}
			d.config.TLS = config.TLS{Mode: "disable"}
			d.config.MaxConnections, d.config.MaxResultBytes, d.config.BodySizeLimit = 1, 1<<20, 1<<20
			test(t, d)
		})
	}
}

// answered returns the error of a query, and fails the test if it gets none
// while anybody would wait for it. That is the proof that a query is stopped
// which would run for hours.
func answered(t *testing.T, s sources.Source, q config.Query, each func(*sources.Row) error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Query(t.Context(), q, each) }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the query hangs")
		return nil
	}
}

// wantNothingLeft runs fn and waits until files and goroutines are as before.
func wantNothingLeft(t *testing.T, fn func()) {
	t.Helper()
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	fn()
	servers.Eventually(t, "files and goroutines are as before", func() bool {
		return openFiles(t) <= files && runtime.NumGoroutine() <= goroutines
	})
}

// impostors are what may answer at the address of a database. Each length in
// what they say is of some gigabytes.
var impostors = map[string][]byte{
	"silence":         nil,
	"zeroes":          make([]byte, 100000),
	"ones":            bytes.Repeat([]byte{0xff}, 100000),
	"noise":           noise(100000),
	"HTTP":            []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nbad request"),
	"endless HTTP":    []byte("HTTP/1.1 200 OK\r\nContent-Length: 4294967295\r\n\r\n"),
	"TLS":             []byte("\x15\x03\x01\x00\x02\x02\x46"),
	"SSH":             []byte("SSH-2.0-OpenSSH_9.2p1\r\n"),
	"SMTP":            []byte("220 mail ESMTP\r\n"),
	"Redis error":     []byte("-DENIED Redis is running in protected mode\r\n"),
	"Redis text":      []byte("$4294967295\r\nx"),
	"Redis list":      []byte("*4294967295\r\n*4294967295\r\n"),
	"Redis map":       []byte("%4294967295\r\n$4294967295\r\n"),
	"Redis maps":      []byte(nestedMaps),
	"PostgreSQL":      []byte("R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"),
	"PostgreSQL long": []byte("R\x00\x00\x00\x08\x00\x00\x00\x00S\xff\xff\xff\xffx"),
	"PostgreSQL huge": []byte("R\x00\x00\x00\x08\x00\x00\x00\x00T\x7f\xff\xff\xff\x7f\xff"),
	"MySQL":           []byte("\x2f\x00\x00\x00\x0a8.0.36\x00\x07\x00\x00\x0012345678\x00\xff\xf7\xff\x02\x00\xff\xdf\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00123456789012\x00"),
	"MySQL error":     []byte("\x17\x00\x00\x00\xff\x10\x04Too many connections"),
	"MySQL long":      []byte("\xff\xff\xff\x00\x0a8.0.36"),
	"ClickHouse":      []byte("\x00\x0aClickHouse\x12\x10\xac\xa9\x03\x03UTC\x02ch\x01"),
	"ClickHouse long": []byte("\x00\xff\xff\xff\xff\x0fClickHouse"),
	"ClickHouse sick": []byte("\x02\xd1\x01\x00\x00\xff\xff\xff\xff\x0fx"),
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{6})
	_, _ = r.Read(b)
	return b
}

// What answers in a server's place, and goes on waiting or hangs up: an error
// that names source and query, and little memory, whatever it says.
func TestImpostors(t *testing.T) {
	eachServer(t, func(t *testing.T, d database) {
		for name, says := range impostors {
			for _, stays := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, stays %v", name, stays), func(t *testing.T) {
					l := fakeServer(t, func(c net.Conn) {
						_, _ = c.Write(says)
						if stays {
							swallow(c)
						}
					})
					c := through(t, d.config, l)
					c.Timeout = 200 * time.Millisecond
					q := query(d.empty)
					q.Timeout = 200 * time.Millisecond
					wantNothingLeft(t, func() {
						s, err := sources.Open(c, sources.Options{})
						if err != nil {
							t.Fatal(err)
						}
						allocated := wantLittleMemory(t)
						err = answered(t, s, q, ignore)
						allocated()
						if err == nil {
							t.Fatal("no error")
						}
						wantOnce(t, err, d.config.Name)
						if err := s.Close(); err != nil {
							t.Error(err)
						}
					})
				})
			}
		}
	})
}

// wantLittleMemory returns what checks that little was allocated since. A packet
// of MySQL has up to 16 MiB, and a buffer to take it.
func wantLittleMemory(t *testing.T) (check func()) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	return func() {
		t.Helper()
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 24<<20 {
			t.Errorf("%d MiB were allocated for a result limit of 1 MiB", got>>20)
		}
	}
}

// lossy passes on what goes to and from a server, the server's words up to a
// number of bytes on each connection, after which it does something else.
type lossy struct {
	target string
	after  int64
	then   func(client net.Conn, gone <-chan struct{}) // gone is closed when the client hangs up

	serving atomic.Int64 // connections
	longest atomic.Int64 // bytes that the server said on one that has ended
}

func (p *lossy) serve(client net.Conn) {
	p.serving.Add(1)
	defer p.serving.Add(-1)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	n, _ := io.CopyN(client, server, p.after)
	if n > p.longest.Load() {
		p.longest.Store(n)
	}
	if n == p.after && p.then != nil {
		p.then(client, gone)
	}
	_ = client.Close()
	_ = server.Close()
	<-gone
}

// read returns how many bytes the server said on the longest connection, when
// all have ended.
func (p *lossy) read(t *testing.T) int64 {
	t.Helper()
	servers.Eventually(t, "the connections end", func() bool { return p.serving.Load() == 0 })
	return p.longest.Load()
}

// A connection that ends, stops or turns to nonsense at any byte of login and
// result: an error that names source and query, or the whole result, and never
// a part of it for the whole.
func TestBrokenConnections(t *testing.T) {
	const rows = 500
	type ending = func(net.Conn, <-chan struct{})
	say := func(b []byte) ending { return func(c net.Conn, _ <-chan struct{}) { _, _ = c.Write(b) } }
	faults := map[string]struct {
		steps int
		then  ending
	}{
		"cut":       {60, nil},
		"noise":     {20, say(noise(100000))},
		"ones":      {20, say(bytes.Repeat([]byte{0xff}, 100000))},
		"lengths":   {20, say(bytes.Repeat([]byte("\x7f\xff\xff\xff"), 25000))},
		"a big row": {20, say(bytes.Repeat([]byte("$2000000000\r\n"), 10000))},
		"silence":   {3, func(_ net.Conn, gone <-chan struct{}) { <-gone }},
	}
	eachServer(t, func(t *testing.T, d database) {
		run := func(t *testing.T, p *lossy) (got int, err error) {
			t.Helper()
			p.target = net.JoinHostPort(d.config.Host, fmt.Sprint(d.config.Port))
			c := through(t, d.config, fakeServer(t, p.serve))
			q := query(fmt.Sprintf(d.wide, rows))
			if p.then != nil || p.after < math.MaxInt64 {
				c.Timeout, q.Timeout = 500*time.Millisecond, 500*time.Millisecond
			}
			s, openErr := sources.Open(c, sources.Options{})
			if openErr != nil {
				t.Fatal(openErr)
			}
			err = answered(t, s, q, func(*sources.Row) error { got++; return nil })
			if closeErr := s.Close(); closeErr != nil {
				t.Error(closeErr)
			}
			return got, err
		}
		whole := &lossy{after: math.MaxInt64}
		if got, err := run(t, whole); err != nil || got != rows {
			t.Fatalf("%d rows through a good connection, %v", got, err)
		}
		total := whole.read(t)
		if total == 0 {
			t.Fatal("nothing came through the good connection")
		}
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				failed := 0
				for step := range fault.steps {
					after := total * int64(step) / int64(fault.steps)
					allocated := wantLittleMemory(t)
					got, err := run(t, &lossy{after: after, then: fault.then})
					allocated()
					switch {
					case err != nil:
						failed++
						wantOnce(t, err, d.config.Name)
					case got != rows:
						t.Errorf("after %d of %d bytes: %d of %d rows and no error", after, total, got, rows)
					}
				}
				if failed < fault.steps-1 {
					t.Errorf("%d of %d queries failed", failed, fault.steps)
				}
			})
		}
	})
}

// A connection that ended while nobody used it costs no round.
func TestCutConnectionCostsNoRound(t *testing.T) {
	eachServer(t, func(t *testing.T, d database) {
		p := startProxy(t, net.JoinHostPort(d.config.Host, fmt.Sprint(d.config.Port)))
		s := open(t, through(t, d.config, p))
		for range 3 {
			if got := read(t, s, d.types); len(got) != 1 {
				t.Errorf("rows are %v", got)
			}
			p.cut()
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
