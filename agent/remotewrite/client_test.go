package remotewrite

import (
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang/snappy"
	promconfig "github.com/prometheus/common/config"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/wal"
)

// shipOne ships one sample to an endpoint and returns the request and the log.
func shipOne(t *testing.T, f *fake, change func(e *config.RemoteWrite)) (header http.Header, log string) {
	t.Helper()
	j := openJournal(t, t.TempDir(), wal.Options{})
	e := endpoint(t, f.URL)
	change(&e)
	s := newShip(t, Options{Endpoint: e, Log: j.Log})
	j.appendDue(1)
	s.step(epoch)
	posts := f.received()
	if len(posts) == 0 {
		return nil, s.log.String()
	}
	return posts[0].header, s.log.String()
}

func TestHeaders(t *testing.T) {
	protocol := []string{"Content-Encoding", "Content-Type", "User-Agent", "X-Prometheus-Remote-Write-Version"}
	for p, want := range map[config.Protocol][]string{
		config.ProtocolV1: {"snappy", "application/x-protobuf", "sql2metrics/test", "0.1.0"},
		config.ProtocolV2: {"snappy", "application/x-protobuf;proto=io.prometheus.write.v2.Request", "sql2metrics/test", "2.0.0"},
	} {
		t.Run(wireVersion(p), func(t *testing.T) {
			f := newFake(t)
			h, _ := shipOne(t, f, func(e *config.RemoteWrite) {
				e.Protocol = p
				e.Headers = map[string]config.Secret{"X-Scope-OrgID": config.NewSecret("dba")}
				for _, name := range protocol {
					e.Headers[strings.ToLower(name)] = config.NewSecret("mine")
				}
			})
			if got := h.Get("X-Scope-OrgID"); got != "dba" {
				t.Errorf("X-Scope-OrgID is %q, want dba", got)
			}
			for i, name := range protocol {
				if got := h.Values(name); len(got) != 1 || got[0] != want[i] {
					t.Errorf("%s is %q, want %q", name, got, want[i])
				}
			}
		})
	}
}

// TestSnappyBlock decodes with the reference implementation.
func TestSnappyBlock(t *testing.T) {
	f := newFake(t)
	j := openJournal(t, t.TempDir(), wal.Options{})
	s := newShip(t, Options{Endpoint: endpoint(t, f.URL), Log: j.Log})
	j.appendDue(2000)
	s.drain(epoch)
	for _, p := range f.received() {
		if n, err := snappy.DecodedLen(p.body); err != nil || n < 2000*10 {
			t.Errorf("a block of %d bytes, %v", n, err)
		}
		if n := len(p.lines(t)); n != 2000 {
			t.Errorf("%d samples, want 2000", n)
		}
	}
}

func TestAuth(t *testing.T) {
	for name, c := range map[string]struct {
		http promconfig.HTTPClientConfig
		want string
	}{
		"none":  {promconfig.HTTPClientConfig{}, ""},
		"basic": {promconfig.HTTPClientConfig{BasicAuth: &promconfig.BasicAuth{Username: "u", Password: "geheim"}}, "Basic dTpnZWhlaW0="},
		"bearer": {promconfig.HTTPClientConfig{Authorization: &promconfig.Authorization{Type: "Bearer", Credentials: "geheim"}},
			"Bearer geheim"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			h, _ := shipOne(t, f, func(e *config.RemoteWrite) { e.HTTP = c.http })
			if got := h.Get("Authorization"); got != c.want {
				t.Errorf("Authorization is %q, want %q", got, c.want)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	f := newFake(t)
	secure := httptest.NewUnstartedServer(f)
	secure.Config.ErrorLog = discardLog()
	secure.StartTLS()
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	to := func(ca string) func(e *config.RemoteWrite) {
		return func(e *config.RemoteWrite) {
			e.URL = endpoint(t, secure.URL).URL
			e.HTTP.TLSConfig.CAFile = ca
		}
	}
	if h, log := shipOne(t, f, to(ca)); h == nil {
		t.Errorf("nothing arrived:\n%s", log)
	}
	if h, log := shipOne(t, f, to("")); h != nil || !strings.Contains(log, "x509") {
		t.Errorf("an unknown authority is taken, or the log does not say:\n%s", log)
	}
}

// TestRedirectIsNotFollowed has a login page at the other end.
func TestRedirectIsNotFollowed(t *testing.T) {
	login := newFake(t)
	f := newFake(t)
	f.answers(func(w http.ResponseWriter, _ post) {
		w.Header().Set("Location", login.URL)
		w.WriteHeader(http.StatusFound)
	})
	shipOne(t, f, func(*config.RemoteWrite) {})
	if n := len(login.received()); n != 0 {
		t.Errorf("%d requests followed the redirect", n)
	}
}

func TestSecretsStaySecret(t *testing.T) {
	secret := config.NewSecret("geheim")
	for name, change := range map[string]func(e *config.RemoteWrite){
		"connection refused": func(e *config.RemoteWrite) { e.URL.Host = servers.HoldPort(t) },
		"no such host":       func(e *config.RemoteWrite) { e.URL.Host = "receiver.invalid" },
		"error":              func(*config.RemoteWrite) {},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.says(500, "oh")
			_, log := shipOne(t, f, func(e *config.RemoteWrite) {
				change(e)
				e.URL.Path = "/geheim/push"
				e.URL.RawQuery = "token=geheim"
				e.Headers = map[string]config.Secret{"X-Token": secret}
				e.HTTP.Authorization = &promconfig.Authorization{Type: "Bearer", Credentials: "geheim"}
			})
			if !strings.Contains(log, "endpoint down") || strings.Contains(log, "geheim") {
				t.Errorf("the log has a secret, or not the trouble:\n%s", log)
			}
		})
	}
}

// TestConnectionsAreUsedAgain reads what a receiver says beside its status.
func TestConnectionsAreUsedAgain(t *testing.T) {
	f := newFake(t)
	connections := map[string]bool{}
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		connections[r.RemoteAddr] = true
		f.mu.Unlock()
		http.Error(w, strings.Repeat("x", 32<<10), http.StatusServiceUnavailable)
	})
	j := openJournal(t, t.TempDir(), wal.Options{})
	s := newShip(t, Options{Endpoint: endpoint(t, f.URL), Log: j.Log})
	j.appendDue(1)
	const attempts = 20
	now := epoch
	for range attempts {
		now = now.Add(s.step(now))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// Package net/http gives one up whose writer sleeps for a moment too long.
	if n := len(connections); n > attempts/2 {
		t.Errorf("%d connections for %d attempts, want one", n, attempts)
	}
	if s.log.Len() > 2<<10 {
		t.Errorf("a log of %d bytes for one answer of 32 KiB", s.log.Len())
	}
}

// TestEndlessBody answers 2xx and never ends what it says.
func TestEndlessBody(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	j.appendDue(1)
	f.answers(func(w http.ResponseWriter, p post) {
		p.written(t, w)
		for chunk := make([]byte, 64<<10); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	s.drain(epoch)
	if l := s.balance(); l.Sent.Samples != 1 {
		t.Errorf("ledger is %+v, want one sample sent", l)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	j := openJournal(t, t.TempDir(), wal.Options{})
	e := endpoint(t, "http://localhost/")
	e.HTTP.TLSConfig.CAFile = filepath.Join(t.TempDir(), "missing.pem")
	s, err := New(Options{Endpoint: e, Log: j.Log, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		s.Close()
		t.Fatal("a CA file that is not there is accepted")
	}
	if !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("the error is %q", err)
	}
}
