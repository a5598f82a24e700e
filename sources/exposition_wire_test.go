package sources_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	promconfig "github.com/prometheus/common/config"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// scraped is a source of type prometheus at an address.
func scraped(t *testing.T, address string) config.Source {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return config.Source{
		Name: "target", Type: config.TypePrometheus, URL: u, Timeout: time.Minute,
		HTTP:   promconfig.HTTPClientConfig{FollowRedirects: true, EnableHTTP2: true},
		Scrape: &config.Scrape{Compression: true},
	}
}

func openScraped(t *testing.T, s config.Source) *sources.Exposition {
	t.Helper()
	e, err := sources.OpenExposition(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// answering serves each connection with what answer writes, after its request.
func answering(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l := fakeServer(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			answer(c)
		}
	})
	return "http://" + l.Addr().String() + "/metrics"
}

// says answers with a text.
func says(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// endless answers with a text and repeats another until the client has enough.
func endless(text, again string) func(net.Conn) {
	return func(c net.Conn) {
		_, err := io.WriteString(c, text)
		more := []byte(strings.Repeat(again, 1+(32<<10)/len(again)))
		for err == nil {
			_, err = c.Write(more)
		}
	}
}

func zipped(text []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text)
	_ = z.Close()
	return b.Bytes()
}

// TestExpositionOnTheWire: whatever answers, a scrape ends with the page or in
// an error that says what is wrong.
func TestExpositionOnTheWire(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	bomb := zipped(zipped(make([]byte, 10<<20)))
	for name, c := range map[string]struct {
		answer func(net.Conn)
		page   string
		says   string // part of the error
	}{
		"chunked":     {says(ok + "Transfer-Encoding: chunked\r\n\r\n2\r\na \r\n2\r\n1\n\r\n0\r\n\r\n"), "a 1\n", ""},
		"until close": {says(ok + "\r\na 1\n"), "a 1\n", ""},
		"HTTP/1.0":    {says("HTTP/1.0 200 OK\r\n\r\na 1\n"), "a 1\n", ""},
		"empty":       {says(ok + "Content-Length: 0\r\n\r\n"), "", ""},
		"empty, said to be gzip": {
			says(ok + "Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"), "", "",
		},
		"gzip, chunked, two members": {
			func(c net.Conn) {
				body := append(zipped([]byte("a 1\n")), zipped([]byte("b 2\n"))...)
				fmt.Fprintf(c, ok+"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			},
			"a 1\nb 2\n", "",
		},
		"a coding nobody knows": {says(ok + "Content-Encoding: utf-8\r\n\r\na 1\n"), "a 1\n", ""},
		"gzip in gzip":          {says(ok + "Content-Encoding: gzip\r\n\r\n" + string(bomb)), string(zipped(make([]byte, 10<<20))), ""},
		"after early hints":     {says("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok + "\r\na 1\n"), "a 1\n", ""},
		"more than its length": {
			says(ok + "Content-Length: 4\r\n\r\na 1\nHTTP/1.1 200 OK\r\n\r\nb 2\n"), "a 1\n", "",
		},

		"deflate": {says(ok + "Content-Encoding: deflate\r\n\r\nx"), "", "compressed as deflate, which was not asked for"},
		"brotli":  {says(ok + "Content-Encoding: br\r\n\r\nx"), "", "compressed as br"},
		"zstd":    {says(ok + "Content-Encoding: zstd\r\n\r\nx"), "", "compressed as zstd"},
		"gzip that breaks off": {
			says(ok + "Content-Encoding: gzip\r\n\r\n" + string(zipped([]byte("a 1\n")))[:15]), "", "read the answer after",
		},
		"gzip with trash behind": {
			says(ok + "Content-Encoding: gzip\r\n\r\n" + string(zipped([]byte("a 1\n"))) + "trash"), "", "read the answer after 4 bytes",
		},
		"less than its length": {says(ok + "Content-Length: 400\r\n\r\na 1\n"), "", "after 4 bytes: unexpected EOF"},
		"a length over the limit": {
			says(ok + "Content-Length: 1099511627776\r\n\r\na 1\n"), "", "over the limit of 67108864 bytes, uncompressed: ask for less, or raise body_size_limit",
		},
		"two lengths":            {says(ok + "Content-Length: 4\r\nContent-Length: 5\r\n\r\na 1\n\n"), "", "no answer"},
		"a chunk that breaks":    {says(ok + "Transfer-Encoding: chunked\r\n\r\nff\r\na 1\n"), "", "after 4 bytes: unexpected EOF"},
		"a chunk of no length":   {says(ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\na 1\n"), "", "invalid byte in chunk length"},
		"closes":                 {says(""), "", "no answer: EOF"},
		"garbage":                {says("-ERR unknown command\r\n"), "", "does not speak HTTP: correct the port"},
		"garbage in a long line": {says(strings.Repeat("garbage", 10000) + "\r\n"), "", "does not speak HTTP"},
		"a header that is none":  {says("HTTP/1.1 200 OK\r\n" + strings.Repeat("garbage", 10000) + "\r\n\r\n"), "", "no answer: "},
		"a trailer that is none": {says(ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("garbage", 10000) + "\r\n\r\n"), "", "read the answer after 0 bytes"},
		"garbage without end":    {endless("", "\x00\x01"), "", "server response headers exceeded"},
		"reset before": {
			func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, "", "no answer: ",
		},
		"reset within": {
			func(c net.Conn) {
				_, _ = io.WriteString(c, ok+"Content-Length: 400\r\n\r\na 1\n")
				_ = c.(*net.TCPConn).SetLinger(0)
			},
			"", "target: ", // the reset may overtake the page
		},
		"words of an error": {
			says("HTTP/1.1 500 Oops \x07\r\n\r\n<h1>\tno\x00\xff " + strings.Repeat("é", 1000)), "",
			"the server answered 500 Internal Server Error (<h1> no?? ééé",
		},
		"an error, zipped":         {says("HTTP/1.1 503 X\r\nContent-Encoding: gzip\r\n\r\n" + string(zipped([]byte("starting")))), "", "503 Service Unavailable (starting)"},
		"an error without end":     {endless("HTTP/1.1 500 X\r\n\r\n", "no "), "", "500 Internal Server Error (no no no"},
		"a status of its own":      {says("HTTP/1.1 599 X\r\n\r\n"), "", "the server answered 599"},
		"a proxy that wants login": {says("HTTP/1.1 407 X\r\n\r\n"), "", "write the proxy's login in proxy_url"},
		"switches protocols":       {says("HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), "", "the server answered 101"},
		"continue without end":     {endless("", "HTTP/1.1 100 Continue\r\n\r\n"), "", "no answer"},
		"hints without end":        {endless("", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"), "", "no answer"},
		"headers without end":      {endless("HTTP/1.1 200 OK\r\n", "X: y\r\n"), "", "server response headers exceeded"},
		"a header without end":     {endless("HTTP/1.1 200 OK\r\nX: ", "y"), "", "server response headers exceeded"},
		"trailers without end":     {endless(ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"), "", "read the answer"},
		"redirect to HTTPS": {
			says("HTTP/1.1 301 X\r\nLocation: https://127.0.0.1/metrics?token=hidden\r\n\r\n"), "", "redirect to another host or scheme, https://127.0.0.1/: if that is right, write it as the url",
		},
		"redirect to a file": {says("HTTP/1.1 301 X\r\nLocation: file:///etc/passwd\r\n\r\n"), "", "redirect to another host or scheme, file://"},
		"redirect to no URL": {says("HTTP/1.1 301 X\r\nLocation: http://[hidden\r\n\r\n"), "", "redirects to what is no URL"},
		"redirect nowhere":   {says("HTTP/1.1 301 X\r\n\r\n"), "", "301 Moved Permanently: it does not say where to; correct the url"},
		"not modified":       {says("HTTP/1.1 304 X\r\n\r\n"), "", "304 Not Modified: that answers a condition; delete headers such as If-None-Match"},
		"many choices":       {says("HTTP/1.1 300 X\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n"), "", "the server answered 300 Multiple Choices"},
		"x-gzip":             {says(ok + "Content-Encoding: x-gzip\r\n\r\n" + string(zipped([]byte("a 1\n")))), "a 1\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, _, err := openScraped(t, scraped(t, answering(t, c.answer))).Scrape(t.Context())
			switch {
			case c.says == "" && (err != nil || string(body) != c.page):
				t.Errorf("got %d bytes, %.100q, %v", len(body), body, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("got %.100q, %v, want an error with %q", body, err, c.says)
			case err != nil && (len(err.Error()) > 500 || !utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\x00\x07") || strings.Contains(err.Error(), "hidden")):
				t.Errorf("the error says too much: %q", err)
			case err != nil && errors.As(err, new(*sources.ConnectError)):
				t.Errorf("%v is of connecting", err)
			}
		})
	}
}

// TestExpositionEndsSlowPages: one that never ends, however slowly it comes,
// ends with the timeout; a status that came before is what is told.
func TestExpositionEndsSlowPages(t *testing.T) {
	for name, c := range map[string]struct{ begins, says string }{
		"a page":         {"HTTP/1.1 200 OK\r\n\r\n", "no whole page within 100ms"},
		"its headers":    {"HTTP/1.1 200 OK\r\nX: ", "no whole page within 100ms"},
		"an error":       {"HTTP/1.1 503 X\r\n\r\n", "the server answered 503 Service Unavailable"},
		"behind a 204":   {"HTTP/1.1 204 X\r\n\r\n", "the server answered 204 No Content"},
		"a page, zipped": {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x10\x00\x00\x00\x00\x00\x00", "no whole page within 100ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scraped(t, answering(t, func(conn net.Conn) {
				_, err := io.WriteString(conn, c.begins)
				for tick := time.NewTicker(10 * time.Millisecond); err == nil; <-tick.C {
					_, err = io.WriteString(conn, "x")
				}
			}))
			late := strings.Contains(c.says, "within")
			var err error
			sources.Patiently(100*time.Millisecond, func(timeout time.Duration) (tooEarly bool) {
				s.Timeout = timeout
				_, _, err = openScraped(t, s).Scrape(t.Context())
				return errors.Is(err, context.DeadlineExceeded) && (!late || errors.As(err, new(*sources.ConnectError)))
			})
			says := strings.Replace(c.says, "100ms", s.Timeout.String(), 1)
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("got %v, want %q", err, says)
			}
			if late != errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v is of the wrong kind", err)
			}
		})
	}
}

// TestExpositionBoundsMemory: a page that never ends takes no more than twice
// the limit, counting what the collector has not come to yet.
func TestExpositionBoundsMemory(t *testing.T) {
	const limit = 2 << 20
	bomb := string(zipped(make([]byte, 1<<20)))
	for name, answer := range map[string]func(net.Conn){
		"a page":       endless("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("a 1\n", 1000)),
		"in chunks":    endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\na 1\n\r\n"),
		"bombs":        endless("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", bomb),
		"headers":      endless("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
		"a header":     endless("HTTP/1.1 200 OK\r\nX: ", "y"),
		"hints":        endless("", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"),
		"trailers":     endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"),
		"an error":     endless("HTTP/1.1 500 X\r\n\r\n", "no "),
		"a large size": says("HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			s := scraped(t, answering(t, answer))
			s.BodySizeLimit = limit
			e := openScraped(t, s)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, _, err := e.Scrape(t.Context()); err == nil {
				t.Fatal("no error")
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 2*limit+1<<20 {
				t.Errorf("allocated %d bytes in all, over twice the limit of %d", took, limit)
			}
		})
	}
}

// TestExpositionKeepsNoLargeBuffer: what a large page took is free as soon as
// whoever scraped is done with it.
func TestExpositionKeepsNoLargeBuffer(t *testing.T) {
	e := openScraped(t, scraped(t, answering(t, says("HTTP/1.1 200 OK\r\n\r\n"+strings.Repeat("a 1\n", 8<<20)))))
	body, _, err := e.Scrape(t.Context())
	if err != nil || len(body) != 32<<20 {
		t.Fatalf("got %d bytes, %v", len(body), err)
	}
	var freed atomic.Bool
	runtime.AddCleanup(&body[0], func(*struct{}) { freed.Store(true) }, nil)
	body = nil
	for deadline := time.Now().Add(time.Minute); !freed.Load(); runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the buffer is still held")
		}
	}
	runtime.KeepAlive(e)
}

// TestExpositionDialsOnce: a scrape of what is dead costs one connection, one
// of what lives none, and nothing stays behind. On a busy machine one or two more
// are taken: net/http does not keep a connection of which it does not know soon
// after the answer that the request was written.
func TestExpositionDialsOnce(t *testing.T) {
	const page = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n"
	for name, c := range map[string]struct {
		serve func(net.Conn)
		dials int64
	}{
		"hangs up":   {func(net.Conn) {}, 10},
		"says no":    {func(c net.Conn) { keepAnswering(c, "HTTP/1.1 503 X\r\nContent-Length: 4\r\n\r\nbusy") }, 3},
		"is alive":   {func(c net.Conn) { keepAnswering(c, page) }, 3},
		"asks once":  {func(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)); _, _ = io.WriteString(c, page) }, 10},
		"is garbage": {func(c net.Conn) { _, _ = io.WriteString(c, "garbage\r\n") }, 10},
	} {
		t.Run(name, func(t *testing.T) {
			var dials atomic.Int64
			l := fakeServer(t, func(conn net.Conn) {
				dials.Add(1)
				c.serve(conn)
			})
			e := openScraped(t, scraped(t, "http://"+l.Addr().String()))
			goroutines := runtime.NumGoroutine()
			for range 10 {
				_, _, _ = e.Scrape(t.Context())
			}
			if got := dials.Load(); got > c.dials {
				t.Errorf("10 scrapes took %d connections, want %d at most", got, c.dials)
			}
			_ = e.Close()
			for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > goroutines; {
				if time.Now().After(deadline) {
					t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
				}
				runtime.Gosched()
			}
		})
	}
}

// TestExpositionFindsHostAgain: a host that swallows what is sent to it is
// dialed by one scrape at a time, and found as soon as it is back.
func TestExpositionFindsHostAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fill := fillQueue(t, l.(*net.TCPListener))
	s := scraped(t, "http://"+l.Addr().String())
	s.Timeout = 100 * time.Millisecond
	e := openScraped(t, s)
	goroutines := runtime.NumGoroutine()
	for range 10 {
		_, _, err := e.Scrape(t.Context())
		if !errors.As(err, new(*sources.ConnectError)) {
			t.Errorf("a host that swallows everything: %v", err)
		}
	}
	servers.Eventually(t, "10 scrapes leave one dial, of three goroutines", func() bool {
		return runtime.NumGoroutine() <= goroutines+3
	})
	for _, c := range fill {
		_ = c.Close()
	}
	var work sync.WaitGroup
	defer work.Wait()
	defer l.Close()
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				keepAnswering(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
			})
		}
	})
	defer e.Close()
	for deadline := time.Now().Add(time.Minute); ; {
		if _, _, err = e.Scrape(t.Context()); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// fillQueue fills the queue of a listener, so that the kernel drops who comes
// next. It returns what fills it. One dial that takes too long may be one that
// the machine had no time for.
func fillQueue(t *testing.T, l *net.TCPListener) (fill []net.Conn) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err == nil {
		var failed error
		err = errors.Join(raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) }), failed)
	}
	if err != nil {
		t.Fatal(err)
	}
	for dropped := 0; len(fill) < 100; {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 50*time.Millisecond)
		if err == nil {
			fill, dropped = append(fill, c), 0
		} else if dropped++; dropped == 5 {
			return fill
		}
	}
	t.Fatal("the queue does not fill")
	return nil
}

// keepAnswering gives one answer to each request on a connection.
func keepAnswering(c net.Conn, answer string) {
	for r := bufio.NewReader(c); ; {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, answer)
	}
}
