package sources_test

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
)

// api is an HTTP server that holds a table and answers with JSON. Tests may
// stop it and start it again at its address.
type api struct {
	address string

	mu     sync.Mutex
	port   net.Listener
	server *http.Server
	done   chan struct{}
	conns  map[net.Conn]bool
	arrays map[string][]byte
	kept   []string
	paused chan struct{} // closed to go on

	slow atomic.Int64 // requests that never end, under way
}

func startAPI(t testing.TB) *api {
	t.Helper()
	a := &api{
		address: servers.HoldPort(t), conns: map[net.Conn]bool{}, arrays: map[string][]byte{}, kept: []string{"1", "2"},
	}
	if err := a.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.kill() })
	return a
}

func (a *api) start() error {
	l, err := net.Listen("tcp", a.address)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.port = l
	a.done = make(chan struct{})
	a.server = &http.Server{Handler: a, ConnState: a.count}
	go func(s *http.Server, done chan struct{}) {
		defer close(done)
		_ = s.Serve(l)
	}(a.server, a.done)
	return nil
}

// kill ends every connection at once.
func (a *api) kill() error {
	a.mu.Lock()
	port, server, done := a.port, a.server, a.done
	a.mu.Unlock()
	_ = servers.Unlisten(port)
	<-done
	return server.Close()
}

func (a *api) pause() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paused = make(chan struct{})
	return nil
}

func (a *api) resume() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.paused)
	a.paused = nil
	return nil
}

func (a *api) count(c net.Conn, state http.ConnState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if state == http.StateClosed {
		delete(a.conns, c)
	} else {
		a.conns[c] = true
	}
}

func (a *api) connections(testing.TB) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.conns)
}

func (a *api) running(testing.TB) int { return int(a.slow.Load()) }

// ServeHTTP implements [http.Handler].
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	paused := a.paused
	a.mu.Unlock()
	if paused != nil {
		select {
		case <-paused:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	rows, _ := strconv.Atoi(r.URL.Query().Get("rows"))
	switch r.Method + " " + r.URL.Path {
	case "HEAD /", "GET /empty":
		fmt.Fprint(w, "[]")
	case "GET /row":
		fmt.Fprint(w, `{"v":1}`)
	case "GET /series":
		a.array(w, rows, `{"n":%d}`)
	case "GET /wide":
		a.array(w, rows, `{"n":%d,"whole":%[1]d.5,"text":"%[1]d","up":true}`)
	case "GET /types":
		fmt.Fprint(w, `[{"i":7,"f":1.5,"t":"word","none":null}]`)
	case "GET /fails":
		fmt.Fprint(w, `[{"n":1,"t":"x","v":1},{"n":2,"t":"x","v":2},{"n":3,"t":"x","v":3},{"n":4,"t":"x","v":4}`)
		panic(http.ErrAbortHandler)
	case "GET /slow", "GET /slow-rows":
		a.slow.Add(1)
		defer a.slow.Add(-1)
		if r.URL.Path == "/slow-rows" {
			fmt.Fprint(w, `[{"n":1,"t":1,"v":1},`)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	case "GET /nap":
		fmt.Fprintf(w, `{"v":%d}`, sha256.Sum256(make([]byte, 1<<20))[0])
	case "GET /count":
		a.mu.Lock()
		defer a.mu.Unlock()
		fmt.Fprintf(w, `{"count":%d}`, len(a.kept))
	case "GET /login":
		http.SetCookie(w, &http.Cookie{Name: "role", Value: "admin"})
		fmt.Fprint(w, "{}")
	case "GET /cookie":
		if len(r.Cookies()) > 0 {
			a.change("PUT", "3")
		}
		http.Error(w, "no role", http.StatusForbidden)
	case "GET /SELECT":
		http.NotFound(w, r)
	default:
		a.change(r.Method, strings.TrimPrefix(r.URL.Path, "/kept/"))
	}
}

// array writes an array of rows. It is made once, as what the server allocates
// counts in tests of what a source does.
func (a *api) array(w http.ResponseWriter, rows int, row string) {
	a.mu.Lock()
	b, made := a.arrays[row+strconv.Itoa(rows)]
	a.mu.Unlock()
	if !made {
		for n := range rows {
			b = fmt.Appendf(append(b, "[,"[min(n, 1)]), row, n+1)
		}
		b = append(b, ']')
		a.mu.Lock()
		a.arrays[row+strconv.Itoa(rows)] = b
		a.mu.Unlock()
	}
	_, _ = w.Write(b)
}

// change is what any other request does to the table.
func (a *api) change(method, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if method == http.MethodDelete {
		a.kept = a.kept[:len(a.kept)-1]
	} else {
		a.kept = append(a.kept, value)
	}
}

func (a *api) source(t testing.TB) config.Source {
	t.Helper()
	u, err := url.Parse("http://" + a.address + "/")
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return config.Source{
		Name: "api", Type: config.TypeHTTPJSON, URL: u, Host: u.Hostname(), Port: port,
		MaxConnections: 2, Timeout: 10 * time.Second,
	}
}

func httpJSONDatabase(t testing.TB) database {
	a := startAPI(t)
	return database{
		config:   a.source(t),
		series:   "GET /series?rows=%d",
		fails:    "GET /fails",
		slow:     "GET /slow",
		slowRows: "GET /slow-rows",
		empty:    "GET /empty",
		types:    "GET /types",
		writes: []string{
			"GET /cookie",
			"PUT /kept/3",
			"POST /kept\n\n3",
			"DELETE /kept/2",
			"PATCH /kept/2",
			"GET /kept/2\nX-HTTP-Method-Override: DELETE",
			"GET /cookie\nCookie: role=admin",
			"GET //" + a.address + "@elsewhere.invalid/kept",
		},
		second:  "GET /row\nGET /row",
		held:    true,
		wide:    "GET /wide?rows=%d",
		count:   "GET /count",
		session: []string{"GET /login"},
		pass:    []string{"PUT 9", "DELETE 9"},
		exec: func(_ testing.TB, changes ...string) {
			for _, c := range changes {
				method, value, _ := strings.Cut(c, " ")
				a.change(method, value)
			}
		},
		kept: func(testing.TB) string {
			a.mu.Lock()
			defer a.mu.Unlock()
			return fmt.Sprint(a.kept)
		},
		running: a.running,
	}
}

func privateHTTPJSON(t testing.TB) private {
	a := startAPI(t)
	return private{
		config:  a.source(t),
		address: a.address,
		kill:    a.kill, start: a.start, pause: a.pause, resume: a.resume,
		row: "GET /row", nap: "GET /nap", slow: "GET /slow", resent: true,
		connections: a.connections,
		running:     a.running,
	}
}
