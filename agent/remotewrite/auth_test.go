package remotewrite

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/sigv4"

	"sql2metrics/config"
)

func TestSigV4(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	f := newFake(t)
	h, _ := shipOne(t, f, func(e *config.RemoteWrite) {
		e.SigV4 = &sigv4.SigV4Config{Region: "eu-central-1", AccessKey: "AKIDEXAMPLE", SecretKey: "geheim"}
	})
	auth := h.Get("Authorization")
	for _, want := range []string{"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/", "/eu-central-1/aps/aws4_request", "SignedHeaders="} {
		if !strings.Contains(auth, want) {
			t.Errorf("Authorization is %q, want %q in it", auth, want)
		}
	}
	if h.Get("Content-Encoding") != "snappy" {
		t.Errorf("headers are %v, want those of the protocol beside the signature", h)
	}
}

// TestSigV4WithoutCredentials starts, and holds the data.
func TestSigV4WithoutCredentials(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	f := newFake(t)
	h, log := shipOne(t, f, func(e *config.RemoteWrite) { e.SigV4 = &sigv4.SigV4Config{Region: "eu-central-1"} })
	if h != nil || !strings.Contains(log, "check sigv4") {
		t.Errorf("the log does not say what to do:\n%s", log)
	}
}

func TestOAuth2(t *testing.T) {
	tokens := 0
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens++
		if id, secret, ok := r.BasicAuth(); !ok || id != "sql2metrics" || secret != "geheim" || r.FormValue("scope") != "metrics.write" {
			t.Errorf("a token is asked for as %q by %v", id, r.Form)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":3600}`, tokens)
	}))
	defer login.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("geheim\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	h, log := shipOne(t, f, func(e *config.RemoteWrite) {
		e.HTTP.OAuth2 = &promconfig.OAuth2{ClientID: "sql2metrics", ClientSecretFile: secret, TokenURL: login.URL, Scopes: []string{"metrics.write"}}
	})
	if got := h.Get("Authorization"); got != "Bearer token-1" || tokens != 1 {
		t.Errorf("Authorization is %q after %d tokens:\n%s", got, tokens, log)
	}
}

// TestPasswordFileIsReadAgain changes it between two requests.
func TestPasswordFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	j, f, o := backlog(t)
	o.Endpoint.HTTP.BasicAuth = &promconfig.BasicAuth{Username: "u", PasswordFile: file}
	s := newShip(t, o)
	for i, password := range []string{"one", "two"} {
		write(password)
		now := epoch.Add(time.Duration(i) * time.Minute)
		j.append(now, round(j.family("due", 1), now, 1)...)
		s.drain(now.Add(5 * time.Second))
		r := http.Request{Header: f.received()[0].header}
		if _, got, _ := r.BasicAuth(); got != password {
			t.Errorf("the password is %q, want %q", got, password)
		}
	}
}

// TestHTTPHeaders sends those of http_headers, and nothing instead of the
// protocol's.
func TestHTTPHeaders(t *testing.T) {
	f := newFake(t)
	h, _ := shipOne(t, f, func(e *config.RemoteWrite) {
		e.HTTP.HTTPHeaders = &promconfig.Headers{Headers: map[string]promconfig.Header{"Thanos-Tenant": {Values: []string{"dba"}}}}
	})
	if got := h.Get("THANOS-TENANT"); got != "dba" {
		t.Errorf("the header is %q, want dba", got)
	}
}

func TestProxy(t *testing.T) {
	f := newFake(t)
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String() + " " + r.Header.Get("Proxy-Authorization")
		f.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("u", "geheim")
	shipOne(t, f, func(e *config.RemoteWrite) {
		e.URL.Host, e.URL.Path = "receiver.invalid", "/push"
		e.HTTP.ProxyURL = promconfig.URL{URL: u}
	})
	if want := "http://receiver.invalid/push Basic dTpnZWhlaW0="; asked != want {
		t.Errorf("the proxy was asked for %q, want %q", asked, want)
	}
}

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	_, a.key, a.cert = a.issue("authority", true)
	return a
}

func (a *authority) issue(name string, isCA bool) (der []byte, key *ecdsa.PrivateKey, cert *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer); err != nil {
		a.t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return der, key, cert
}

// write writes a certificate of that name and its key.
func (a *authority) write(name, certFile, keyFile string) {
	a.t.Helper()
	der, key, _ := a.issue(name, false)
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der},
		keyFile:  {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// TestMutualTLS rotates the files of the client's certificate.
func TestMutualTLS(t *testing.T) {
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	ca := newAuthority(t)
	if err := os.WriteFile(path("ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	der, key, _ := ca.issue("receiver", false)
	trusted := x509.NewCertPool()
	trusted.AddCert(ca.cert)
	f := newFake(t)
	var client string
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client = r.TLS.PeerCertificates[0].Subject.CommonName
		f.ServeHTTP(w, r)
	}))
	secure.Config.ErrorLog = discardLog()
	secure.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: trusted,
	}
	secure.StartTLS()
	defer secure.Close()

	j, _, o := backlog(t)
	o.Endpoint.URL = endpoint(t, secure.URL).URL
	o.Endpoint.HTTP.TLSConfig = promconfig.TLSConfig{CAFile: path("ca.pem"), CertFile: path("agent.pem"), KeyFile: path("agent.key")}
	ca.write("first", path("agent.pem"), path("agent.key"))
	s := newShip(t, o)
	for i, name := range []string{"first", "second", "third"} {
		ca.write(name, path("agent.pem"), path("agent.key"))
		now := epoch.Add(time.Duration(i) * time.Minute)
		j.append(now, round(j.family("due", 1), now, 1)...)
		s.drain(now.Add(5 * time.Second))
		if client != name {
			t.Errorf("the certificate is that of %q, want %q:\n%s", client, name, s.log)
		}
	}

	// One of an authority that the receiver does not know is trouble, and held.
	newAuthority(t).write("stranger", path("agent.pem"), path("agent.key"))
	now := epoch.Add(time.Hour)
	j.append(now, round(j.family("due", 1), now, 1)...)
	s.drain(now.Add(5 * time.Second))
	if l := s.balance(); l.Sent.Samples != 3 || l.Pending.Samples != 1 || !strings.Contains(s.log.String(), "endpoint down") {
		t.Errorf("ledger is %+v, want one sample held:\n%s", l, s.log)
	}
}
