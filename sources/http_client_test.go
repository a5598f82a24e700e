package sources_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"

	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// secret is what no error may repeat.
const secret = "hunter2"

// served starts a server that answers with what reply returns for a request.
func served(t *testing.T, reply func(*http.Request) string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, reply(r))
	}))
	t.Cleanup(server.Close)
	return server
}

// TestExpositionLogsInAnew: a login that lies in a file is read for each
// request, so that a new one needs no reload.
func TestExpositionLogsInAnew(t *testing.T) {
	login := tempFile(t, []byte("first\n"))
	for name, c := range map[string]struct {
		http promconfig.HTTPClientConfig
		sent func(*http.Request) string
	}{
		"password_file": {
			promconfig.HTTPClientConfig{BasicAuth: &promconfig.BasicAuth{Username: "mon", PasswordFile: login}},
			func(r *http.Request) string {
				_, password, _ := r.BasicAuth()
				return password
			},
		},
		"username_file": {
			promconfig.HTTPClientConfig{BasicAuth: &promconfig.BasicAuth{UsernameFile: login, Password: "p"}},
			func(r *http.Request) string {
				user, _, _ := r.BasicAuth()
				return user
			},
		},
		"credentials_file": {
			promconfig.HTTPClientConfig{Authorization: &promconfig.Authorization{Type: "Bearer", CredentialsFile: login}},
			func(r *http.Request) string { return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") },
		},
		"http_headers": {
			promconfig.HTTPClientConfig{HTTPHeaders: &promconfig.Headers{Headers: map[string]promconfig.Header{"X-Token": {Files: []string{login}}}}},
			func(r *http.Request) string { return r.Header.Get("X-Token") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scraped(t, served(t, c.sent).URL)
			s.HTTP = c.http
			e := openScraped(t, s)
			for _, want := range []string{"first", "first", "second"} {
				if err := os.WriteFile(login, []byte(want+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				if body, _, err := e.Scrape(t.Context()); err != nil || string(body) != want {
					t.Errorf("logged in with %q, %v, want %q", body, err, want)
				}
			}
			if err := os.Remove(login); err != nil {
				t.Fatal(err)
			}
			_, _, err := e.Scrape(t.Context())
			if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), login) {
				t.Errorf("without the file: %v", err)
			}
		})
	}
}

// TestExpositionOverTLS: certificates are checked, and both sides' may change
// on disk.
func TestExpositionOverTLS(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	serverPair, err := tls.X509KeyPair(ca.issue(t, "db.example"))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{serverPair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	server.StartTLS()
	defer server.Close()

	firstCert, firstKey := ca.issue(t, "first")
	cert, key := tempFile(t, firstCert), tempFile(t, firstKey)
	s := scraped(t, server.URL)
	s.HTTP.TLSConfig = promconfig.TLSConfig{CAFile: ca.file, CertFile: cert, KeyFile: key, ServerName: "db.example"}
	e := openScraped(t, s)
	scrape := func(want string) {
		t.Helper()
		if body, _, err := e.Scrape(t.Context()); err != nil || string(body) != want {
			t.Errorf("the server saw %q, %v, want %q", body, err, want)
		}
	}
	scrape("HTTP/2.0 first")
	secondCert, secondKey := ca.issue(t, "second")
	for file, content := range map[string][]byte{cert: secondCert, key: secondKey} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scrape("HTTP/2.0 second")

	refused := func(says string) {
		t.Helper()
		_, _, err := openScraped(t, s).Scrape(t.Context())
		if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	s.HTTP.TLSConfig.ServerName = "elsewhere"
	refused("not elsewhere")
	s.HTTP.TLSConfig.ServerName, s.HTTP.TLSConfig.CAFile = "db.example", other.file
	refused("unknown authority")
	plain := scraped(t, strings.Replace(server.URL, "https", "http", 1))
	if _, _, err := openScraped(t, plain).Scrape(t.Context()); err == nil || !strings.Contains(err.Error(), "400 Bad Request (Client sent an HTTP request to an HTTPS server.)") {
		t.Errorf("without TLS: %v", err)
	}
	s.URL.Host = strings.TrimPrefix(served(t, func(*http.Request) string { return "" }).URL, "http://")
	s.HTTP.TLSConfig.CAFile = ca.file
	refused("server gave HTTP response to HTTPS client")
	if _, err := sources.OpenExposition(s); err != nil {
		t.Error(err)
	}
	s.HTTP.TLSConfig.CAFile = "/no/such"
	if _, err := sources.OpenExposition(s); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("without its authority: %v", err)
	}
}

// TestExpositionOAuth2: the token is asked for once, and whatever its endpoint
// does, the scrape ends in time and tells no secret.
func TestExpositionOAuth2(t *testing.T) {
	tokens := 0
	target := served(t, func(r *http.Request) string { return r.Header.Get("Authorization") })
	for name, c := range map[string]struct {
		endpoint http.HandlerFunc // nil: nobody listens
		says     string           // part of the error
	}{
		"grants": {
			func(w http.ResponseWriter, _ *http.Request) {
				tokens++
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"access_token":"t1","token_type":"Bearer","expires_in":3600}`)
			}, "",
		},
		"refuses": {
			func(w http.ResponseWriter, r *http.Request) {
				_, password, _ := r.BasicAuth()
				http.Error(w, "wrong secret "+password+r.FormValue("client_secret"), http.StatusUnauthorized)
			}, "the token_url of oauth2 answered 401 Unauthorized: correct client_id",
		},
		"no tokens": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, secret) }, "oauth2"},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm() // then the server sees that the client is gone
			<-r.Context().Done()
		}, "i/o timeout"},
		"not there": {nil, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := "http://" + servers.HoldPort(t)
			if c.endpoint != nil {
				server := httptest.NewServer(c.endpoint)
				defer server.Close()
				endpoint = server.URL
			}
			s := scraped(t, target.URL)
			if name == "hangs" {
				s.Timeout = 100 * time.Millisecond
			}
			s.HTTP.OAuth2 = &promconfig.OAuth2{
				ClientID: "mon", ClientSecret: secret, TokenURL: endpoint + "/token?key=" + secret,
			}
			e := openScraped(t, s)
			for range 2 {
				body, _, err := e.Scrape(t.Context())
				switch {
				case c.says == "":
					if err != nil || string(body) != "Bearer t1" {
						t.Errorf("got %q, %v", body, err)
					}
				case err == nil || !errors.As(err, new(*sources.ConnectError)):
					t.Errorf("got %q, %v, want an error of connecting", body, err)
				case strings.Contains(err.Error(), secret):
					t.Errorf("the error tells the secret: %v", err)
				case !strings.Contains(err.Error(), c.says) && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("got %v, want %q", err, c.says)
				}
			}
		})
	}
	if tokens != 1 {
		t.Errorf("asked for %d tokens, want 1", tokens)
	}
}

// TestExpositionThroughProxy: plain requests go to the proxy, those over TLS
// through it, and its login is told to nobody else.
func TestExpositionThroughProxy(t *testing.T) {
	target := served(t, func(r *http.Request) string { return "login " + r.Header.Get("Proxy-Authorization") })
	secure := httptest.NewTLSServer(target.Config.Handler)
	defer secure.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r2 := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
		if user, password, _ := r2.BasicAuth(); user != "mon" || password != secret {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if r.Method != http.MethodConnect {
			_, _ = io.WriteString(w, "from the proxy")
			return
		}
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		_, _ = io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(to, from)
			_ = to.Close()
		}()
		_, _ = io.Copy(from, to)
	}))
	defer proxy.Close()
	gone := servers.HoldPort(t)
	login := func(address, password string) *url.URL {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword("mon", password)
		return u
	}
	for name, c := range map[string]struct {
		target string
		proxy  *url.URL
		page   string
		says   string
		kind   bool // of connecting
	}{
		"HTTP":              {target.URL, login(proxy.URL, secret), "from the proxy", "", false},
		"CONNECT":           {secure.URL, login(proxy.URL, secret), "login ", "", false},
		"HTTP, wrong":       {target.URL, login(proxy.URL, "wrong"), "", "407 Proxy Authentication Required: write the proxy's login in proxy_url", false},
		"CONNECT, wrong":    {secure.URL, login(proxy.URL, "wrong"), "", "Proxy Authentication Required", true},
		"HTTP, no proxy":    {target.URL, login("http://"+gone, secret), "", "proxyconnect tcp: dial tcp", true},
		"CONNECT, no proxy": {secure.URL, login("http://"+gone, secret), "", "proxyconnect tcp: dial tcp", true},
		"CONNECT, nowhere":  {"https://" + gone, login(proxy.URL, secret), "", "Bad Gateway", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := scraped(t, c.target)
			s.HTTP.ProxyURL = promconfig.URL{URL: c.proxy}
			s.HTTP.TLSConfig.InsecureSkipVerify = true
			body, _, err := openScraped(t, s).Scrape(t.Context())
			switch {
			case c.says == "":
				if err != nil || string(body) != c.page {
					t.Errorf("got %q, %v", body, err)
				}
			case err == nil || !strings.Contains(err.Error(), c.says) || errors.As(err, new(*sources.ConnectError)) != c.kind:
				t.Errorf("got %q, %v", body, err)
			case strings.Contains(err.Error(), secret):
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

// TestHTTPHeadWithBody: what a server sends behind its answer to a HEAD is
// read by nobody, and printed by nobody: net/http would show it in the
// standard log, and some servers repeat logins in it.
func TestHTTPHeadWithBody(t *testing.T) {
	ended := make(chan struct{}, 1)
	l := fakeServer(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"+secret)
			_, _ = io.Copy(io.Discard, r)
			ended <- struct{}{}
		}
	})
	var printed bytes.Buffer
	usual := log.Writer()
	log.SetOutput(&printed)
	defer log.SetOutput(usual)
	s := open(t, apiAt(t, "http://"+l.Addr().String()))
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ended
	log.SetOutput(usual)
	if strings.Contains(printed.String(), secret) {
		t.Errorf("the log has %s", printed.String())
	}
}
