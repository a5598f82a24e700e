package sources_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// apiAt is the source of an API at an address.
func apiAt(t testing.TB, address string) config.Source {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return config.Source{
		Name: "api", Type: config.TypeHTTPJSON, URL: u, MaxConnections: 2, Timeout: time.Minute, BodySizeLimit: 16 << 20,
		HTTP: promconfig.HTTPClientConfig{FollowRedirects: true, EnableHTTP2: true},
	}
}

// answers starts a server that runs handle.
func answers(t testing.TB, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server
}

// ask is a query with the paths of its rows and columns.
func ask(text, rows string, columns ...string) config.Query {
	q := query(text)
	q.JSON = &config.JSON{Rows: rows}
	for _, c := range columns {
		name, path, ok := strings.Cut(c, "=")
		if !ok {
			path = name
		}
		q.JSON.Columns = append(q.JSON.Columns, config.JSONColumn{Name: name, Path: path})
	}
	return q
}

// lines returns the rows of q, the columns first.
func lines(ctx context.Context, s sources.Source, q config.Query) (rows []string, err error) {
	err = s.Query(ctx, q, func(r *sources.Row) error {
		if rows == nil {
			rows = append(rows, strings.Join(r.Columns, "|"))
		}
		rows = append(rows, line(r))
		return nil
	})
	return rows, err
}

// However an answer comes, its rows are the same.
func TestHTTPJSONAnswers(t *testing.T) {
	const document = `{"hits":[{"name":"a","n":9007199254740993,"ok":true},{"name":"b","n":1.5,"ok":null}]}`
	whole := func(w http.ResponseWriter) { _, _ = io.WriteString(w, document) }
	for name, handle := range map[string]http.HandlerFunc{
		"plain": func(w http.ResponseWriter, _ *http.Request) { whole(w) },
		"chunked": func(w http.ResponseWriter, _ *http.Request) {
			for _, c := range []byte(document) {
				_, _ = w.Write([]byte{c})
				_ = http.NewResponseController(w).Flush()
			}
		},
		"gzip": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "gzip" {
				t.Errorf("asked for %v", r.Header)
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped([]byte(document)))
		},
		"byte order mark": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\uFEFF"+document) },
		"moved": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hits" {
				http.Redirect(w, r, "/there?a=b", http.StatusFound)
				return
			}
			whole(w)
		},
		"another kind of text": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusNonAuthoritativeInfo)
			whole(w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, apiAt(t, answers(t, handle).URL))
			for range 3 {
				got, err := lines(t.Context(), s, ask("GET hits", "hits", "n", "name", "ok"))
				if diff := cmp.Diff([]string{"n|name|ok", "9007199254740993|a|true", "1.5|b|"}, got); err != nil || diff != "" {
					t.Error(err, diff)
				}
			}
		})
	}
}

// A request is what its text says, and says who asks.
func TestHTTPJSONRequest(t *testing.T) {
	server := answers(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"v":%q}`, fmt.Sprintf("%s %s %s %s %s|%s|%s", r.Method, r.RequestURI, r.Header["Accept"], r.Header["Content-Type"], r.Header["X-A"], r.UserAgent(), body))
	})
	c := apiAt(t, server.URL+"/base/?x=y")
	c.AllowPost = true
	s := open(t, c)
	const who = " (source=api; collector=c_1; query=q)"
	for text, want := range map[string]string{
		"GET":                                  "GET /base/?x=y [application/json] [] []|%|",
		"GET a?b=c%20d":                        "GET /base/a?b=c%20d [application/json] [] []|%|",
		"POST /q\nX-A: 1\n\n{\"a\": 1}\n":      "POST /q [application/json] [application/json] [1]|%|{\"a\": 1}\n",
		"POST /q\ncontent-type: a/b\n\n\n\n x": "POST /q [application/json] [a/b] []|%|\n\n x",
	} {
		q := ask(text, "", "v")
		q.Collector = "c 1"
		got, err := lines(t.Context(), s, q)
		if err != nil || len(got) != 2 {
			t.Errorf("%q: %v, %v", text, got, err)
			continue
		}
		before, after, _ := strings.Cut(got[1], "|")
		agent, body, _ := strings.Cut(after, "|")
		if before+"|%|"+body != want || !strings.HasPrefix(agent, "sql2metrics/") || !strings.HasSuffix(agent, who) {
			t.Errorf("%q: %s, want %s", text, got[1], want)
		}
	}
}

func TestHTTPJSONHead(t *testing.T) {
	server := answers(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/file" {
			w.Header().Set("Content-Length", "123456")
			w.Header().Set("Last-Modified", "Sun, 22 Nov 2026 06:00:00 GMT")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	s := open(t, apiAt(t, server.URL))
	for text, want := range map[string]string{
		"HEAD /file":  "200|123456|2026-11-22T06:00:00Z",
		"HEAD /other": "503||",
	} {
		got, err := lines(t.Context(), s, query(text))
		if err != nil || len(got) != 2 || got[0] != "status|content_length|last_modified|seconds" || !strings.HasPrefix(got[1], want+"|") {
			t.Errorf("%s: %v, %v, want %s", text, got, err, want)
		}
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// What goes wrong is named, with what to do, and one bad answer does not spoil
// the next.
func TestHTTPJSONErrors(t *testing.T) {
	elsewhere := answers(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect to another host was followed") })
	say := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	endless := func(encode func([]byte) []byte, coding string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if coding != "" {
				w.Header().Set("Content-Encoding", coding)
			}
			_, _ = w.Write(encode([]byte("[")))
			for part := encode(bytes.Repeat([]byte(" "), 1<<20)); r.Context().Err() == nil; {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		}
	}
	plain := func(b []byte) []byte { return b }
	for name, test := range map[string]struct {
		text   string
		handle http.HandlerFunc
		says   []string
	}{
		"204":           {"GET", say(204, "", ""), []string{"the answer is no JSON: it is empty", "204 No Content"}},
		"404":           {"GET", say(404, "text/html", "<h1>no such\n index</h1>"), []string{"404 Not Found (<h1>no such index</h1>): correct the path"}},
		"500":           {"GET", say(500, "application/json", `{"error":"out of memory"}`), []string{"500 Internal Server Error", "out of memory"}},
		"503 at length": {"GET", say(503, "", strings.Repeat("x", 1<<20)), []string{"503 Service Unavailable"}},
		"403":           {"GET", say(403, "", ""), []string{"403 Forbidden: correct basic_auth"}},
		"HTML":          {"GET", say(200, "text/html", "<html>\n<title>Log in</title>"), []string{"is no JSON", "Content-Type is text/html", "begins with <html> <title>Log in</title>"}},
		"cut-off JSON":  {"GET", say(200, "application/json", `[{"v":1},{"v"`), []string{"its JSON is cut off after 13 bytes"}},
		"deep":          {"GET", say(200, "", strings.Repeat("[", 1<<20)), []string{"nests more than 1000 deep"}},
		"nothing there": {"GET", say(200, "", `{"error":"x"}`), []string{`nothing is at the path hits of rows`, `members "error"`}},
		"elsewhere":     {"GET", http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP, []string{"redirect to another host"}},
		"another scheme": {"GET", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+"/", http.StatusMovedPermanently)
		}, []string{"redirect to another host or scheme"}},
		"a file":         {"GET", http.RedirectHandler("file:///etc/passwd", http.StatusFound).ServeHTTP, []string{"redirect to another host or scheme"}},
		"for ever":       {"GET", http.RedirectHandler("/", http.StatusFound).ServeHTTP, []string{"stopped after 10 redirects"}},
		"POST elsewhere": {"POST /\n\n{}", http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect).ServeHTTP, []string{"redirect to another host"}},
		"POST to GET":    {"POST /\n\n{}", http.RedirectHandler("/x", http.StatusFound).ServeHTTP, []string{"would make a GET of a POST"}},
		"over the limit": {"GET", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999999") }, []string{"over the limit of 1048576 bytes", "body_size_limit"}},
		"endless":        {"GET", endless(plain, ""), []string{"over the limit of 1048576 bytes"}},
		"bomb":           {"GET", endless(zipped, "gzip"), []string{"over the limit of 1048576 bytes"}},
		"not gzip": {"GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, `{"hits":[]}           `)
		}, []string{"gzip"}},
		"breaks off": {"GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"hits":[]}`)
		}, []string{"connection ended during the statement", "after 11 bytes: unexpected EOF"}},
		"slow drip": {"GET", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, "[")
				_ = http.NewResponseController(w).Flush()
			}
		}, []string{"query timed out after "}},
	} {
		t.Run(name, func(t *testing.T) {
			var mended atomic.Bool
			server := answers(t, func(w http.ResponseWriter, r *http.Request) {
				if mended.Load() {
					_, _ = io.WriteString(w, `{"hits":[{"v":1}]}`)
					return
				}
				test.handle(w, r)
			})
			c := apiAt(t, server.URL+"/?key=verysecret")
			c.AllowPost, c.BodySizeLimit = true, 1<<20
			s := open(t, c)
			q := ask(test.text, "hits", "v")
			var got []string
			var err error
			if name == "slow drip" {
				q.Timeout = 200 * time.Millisecond
			}
			sources.Patiently(q.Timeout, func(timeout time.Duration) (tooEarly bool) {
				q.Timeout = timeout
				got, err = lines(t.Context(), s, q)
				return errors.As(err, new(*sources.ConnectError)) && errors.Is(err, context.DeadlineExceeded)
			})
			if err == nil {
				t.Fatalf("got %v and no error", got)
			}
			wantOnce(t, err, "api")
			for _, says := range test.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("error is %v, want %s", err, says)
				}
			}
			if errors.As(err, new(*sources.ConnectError)) || strings.Contains(err.Error(), "verysecret") || strings.Contains(err.Error(), "\n") || len(err.Error()) > 500 {
				t.Errorf("error is %q", err)
			}
			mended.Store(true)
			if got, err := lines(t.Context(), s, ask(test.text, "hits", "v")); err != nil || len(got) != 2 {
				t.Errorf("the next answer gives %v, %v", got, err)
			}
		})
	}
}

// A login that is refused is not tried again until its pause is over, or its
// file holds another one.
func TestHTTPJSONLogins(t *testing.T) {
	var asked atomic.Int64
	var password atomic.Value
	password.Store("first")
	server := answers(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, basic, _ := r.BasicAuth()
		bearer, header := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), r.Header.Get("X-Token")
		if !slices.Contains([]string{bearer, basic, header}, password.Load().(string)) {
			http.Error(w, "you sent "+r.Header.Get("Authorization")+" "+basic+header, http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"v":1}`)
	})
	for name, login := range map[string]func(file string) promconfig.HTTPClientConfig{
		"basic": func(file string) promconfig.HTTPClientConfig {
			return promconfig.HTTPClientConfig{BasicAuth: &promconfig.BasicAuth{Username: "mon", PasswordFile: file}}
		},
		"bearer": func(file string) promconfig.HTTPClientConfig {
			return promconfig.HTTPClientConfig{Authorization: &promconfig.Authorization{Type: "Bearer", CredentialsFile: file}}
		},
		"a header": func(file string) promconfig.HTTPClientConfig {
			return promconfig.HTTPClientConfig{HTTPHeaders: &promconfig.Headers{Headers: map[string]promconfig.Header{"X-Token": {Files: []string{file}}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := tempFile(t, []byte("first\n"))
			c := apiAt(t, server.URL)
			c.HTTP = login(file)
			at := time.Now()
			s, err := sources.OpenHTTPJSON(c, func() time.Time { return at })
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			password.Store("first")
			works := func() {
				t.Helper()
				if got, err := lines(t.Context(), s, ask("GET", "", "v")); err != nil || len(got) != 2 {
					t.Errorf("got %v, %v", got, err)
				}
			}
			refused := func() {
				t.Helper()
				before := asked.Load()
				for range 5 {
					err := s.Query(t.Context(), ask("GET", "", "v"), ignore)
					if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "401 Unauthorized") ||
						strings.Contains(err.Error(), "first") || strings.Contains(err.Error(), "third") {
						t.Errorf("error is %v", err)
					}
				}
				if n := asked.Load() - before; n != 1 {
					t.Errorf("%d logins, want 1", n)
				}
			}
			rotate := func(word string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(word+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			works()
			works()
			password.Store("second")
			refused()
			rotate("third")
			refused()
			rotate("second")
			works()
			works()
		})
	}
}

// Requests whose login is good are under way at the same time.
func TestHTTPJSONLogsInAtOnce(t *testing.T) {
	var both atomic.Bool
	arrived, all := make(chan struct{}, 2), make(chan struct{})
	server := answers(t, func(w http.ResponseWriter, r *http.Request) {
		if both.Load() {
			arrived <- struct{}{}
			select {
			case <-all:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, `{"v":1}`)
	})
	c := apiAt(t, server.URL)
	c.HTTP.BasicAuth = &promconfig.BasicAuth{Username: "mon", Password: secret}
	s := open(t, c)
	run := func() error { return s.Query(t.Context(), ask("GET", "", "v"), ignore) }
	if err := run(); err != nil {
		t.Fatal(err)
	}
	both.Store(true)
	errs := make(chan error, 2)
	for range 2 {
		go func() { errs <- run() }()
	}
	go func() {
		defer close(all)
		for range 2 {
			select {
			case <-arrived:
			case <-t.Context().Done():
			}
		}
	}()
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A request goes through a proxy, TLS is checked, and both sides show
// certificates.
func TestHTTPJSONProxyAndTLS(t *testing.T) {
	proxy := answers(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"v":%q}`, r.URL.Host+" "+r.Header.Get("Proxy-Authorization"))
	})
	c := apiAt(t, "http://api.invalid/")
	c.HTTP.ProxyURL.URL, _ = url.Parse(strings.Replace(proxy.URL, "http://", "http://u:p@", 1))
	got, err := lines(t.Context(), open(t, c), ask("GET /x", "", "v"))
	if diff := cmp.Diff([]string{"v", "api.invalid Basic dTpw"}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"v":%q}`, r.Proto) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	c = apiAt(t, server.URL)
	if err := open(t, c).Query(t.Context(), ask("GET", "", "v"), ignore); !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown authority: %v", err)
	}
	c.HTTP.TLSConfig.InsecureSkipVerify = true
	if got, err := lines(t.Context(), open(t, c), ask("GET", "", "v")); err != nil || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

// A 10 MB answer is held once, not twice: what a run allocates in all is little
// more than the answer, if its length is known or was that of the last.
func TestHTTPJSONLargeAnswers(t *testing.T) {
	row := `{"name":"0123456789abcdef","n":12345,"v":1.25,"pad":"` + strings.Repeat("x", 200) + `"},`
	document := []byte("[" + strings.Repeat(row, 10<<20/len(row)) + "{}]")
	small := zipped(document)
	for name, handle := range map[string]http.HandlerFunc{
		"with its length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(document)))
			_, _ = w.Write(document)
		},
		"chunked": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(document) },
		"gzip": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(small)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, apiAt(t, answers(t, handle).URL))
			run := func() float64 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				rows := 0
				if err := s.Query(t.Context(), ask("GET", "", "n", "name", "v"), func(*sources.Row) error { rows++; return nil }); err != nil || rows < 40_000 {
					t.Fatalf("%d rows, %v", rows, err)
				}
				runtime.ReadMemStats(&after)
				return float64(after.TotalAlloc-before.TotalAlloc) / float64(len(document))
			}
			first, second := run(), run()
			t.Logf("the first run allocates %.2f times the answer, the second %.2f", first, second)
			// A buffer that grows doubles: the last one takes up to twice the answer,
			// the one before as much as the answer, and all before that as much again.
			most := 4.0
			if name == "with its length" {
				most = 1.3
			}
			if first > most || second > 1.3 {
				t.Errorf("the first run allocates %.2f times the answer, the second %.2f", first, second)
			}
		})
	}
}
