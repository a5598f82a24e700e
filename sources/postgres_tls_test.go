package sources_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	template := certificate(name)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key, tempFile(t, pemBlock("CERTIFICATE", der))}
}

// issue returns a certificate and its key for name.
func (a authority) issue(t *testing.T, name string) (certPEM, keyPEM []byte) {
	t.Helper()
	template := certificate(name)
	template.DNSNames = []string{name}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemBlock("CERTIFICATE", der), pemBlock("PRIVATE KEY", keyDER)
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func tempFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPostgresTLS(t *testing.T) {
	t.Parallel()
	pg := servers.Postgres(t)
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	cert, key := ca.issue(t, "db.example")
	pg.WriteFile(t, "server.crt", cert)
	pg.WriteFile(t, "server.key", key)
	pg.WriteFile(t, "root.crt", pemBlock("CERTIFICATE", ca.cert.Raw))
	pg.WriteFile(t, "pg_hba.conf", []byte("hostssl all tlsuser all cert\nhost all all all scram-sha-256\n"))
	cert, key = ca.issue(t, "tlsuser")
	certFile, keyFile := tempFile(t, cert), tempFile(t, key)
	pg.Exec(t, "CREATE ROLE tlsuser LOGIN",
		"ALTER SYSTEM SET ssl = on", "ALTER SYSTEM SET ssl_ca_file = 'root.crt'")
	pg.Reload(t)

	for name, test := range map[string]struct {
		tls  config.TLS
		user string
		want string // whether TLS is on, or part of the error
	}{
		"default":                     {config.TLS{}, "", "true"},
		"prefer":                      {config.TLS{Mode: "prefer"}, "", "true"},
		"allow":                       {config.TLS{Mode: "allow"}, "", "false"},
		"disable":                     {config.TLS{Mode: "disable"}, "", "false"},
		"require":                     {config.TLS{Mode: "require"}, "", "true"},
		"verify-ca":                   {config.TLS{Mode: "verify-ca", CAFile: ca.file}, "", "true"},
		"verify-ca, wrong authority":  {config.TLS{Mode: "verify-ca", CAFile: other.file}, "", "check tls.ca_file"},
		"verify-full, name of server": {config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.example"}, "", "true"},
		"verify-full, other name":     {config.TLS{Mode: "verify-full", CAFile: ca.file}, "", "set tls.server_name"},
		"verify-full, wrong ca":       {config.TLS{Mode: "verify-full", CAFile: other.file, ServerName: "db.example"}, "", "check tls.ca_file"},
		"verify-full, no ca":          {config.TLS{Mode: "verify-full", ServerName: "db.example"}, "", "check tls.ca_file"},
		"missing ca file":             {config.TLS{Mode: "verify-full", CAFile: "/no/such/file"}, "", "read TLS file: open /no/such/file"},
		"client certificate":          {config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.example", CertFile: certFile, KeyFile: keyFile}, "tlsuser", "true"},
		"no client certificate":       {config.TLS{Mode: "require"}, "tlsuser", "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			c := pgSource(pg)
			c.TLS = test.tls
			if test.user != "" {
				c.User, c.Password = test.user, config.Secret{}
			}
			s := open(t, c)
			var got []string
			err := s.Query(t.Context(), query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), func(r *sources.Row) error {
				got = append(got, line(r))
				return nil
			})
			switch {
			case err == nil:
				if !cmp.Equal(got, []string{test.want}) {
					t.Errorf("TLS is %v, want %s", got, test.want)
				}
			case !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), test.want):
				t.Errorf("error is %v, want %s", err, test.want)
			}
		})
	}

	t.Run("cancel", func(t *testing.T) {
		c := pgSource(pg)
		c.TLS = config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.example"}
		s := open(t, c)
		q := query("SELECT pg_sleep(600)")
		q.Timeout = 100 * time.Millisecond
		if err := s.Query(t.Context(), q, ignore); err == nil {
			t.Error("no error")
		}
		servers.Eventually(t, "the query leaves the server", func() bool { return pg.Running(t, application) == 0 })
	})
}

func TestPostgresWithoutTLS(t *testing.T) {
	c := pgSource(shared.Get(t))
	c.TLS.Mode = "require"
	err := open(t, c).Query(t.Context(), query("SELECT 1"), ignore)
	if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "the server has TLS off") {
		t.Errorf("error is %v", err)
	}
}

// Under prefer a server without TLS refuses it first. What it says then is
// what counts.
func TestPostgresErrorShowsWhatCounts(t *testing.T) {
	pg := shared.Get(t)
	greet := func(c net.Conn) {
		_, _ = c.Write([]byte("N"))
		swallow(c)
	}
	for name, test := range map[string]struct {
		change     func(*config.Source)
		want, hint string
	}{
		"password": {func(c *config.Source) { c.Password = config.NewSecret("wrong") }, "password authentication failed", "check user and password"},
		"database": {func(c *config.Source) { c.Database = "nothing" }, `database "nothing" does not exist`, "check database"},
		"no answer": {func(c *config.Source) {
			*c = through(t, *c, fakeServer(t, greet))
			c.Timeout = 100 * time.Millisecond
		}, "timeout", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := pgSource(pg)
			c.TLS.Mode = "prefer"
			test.change(&c)
			err := open(t, c).Query(t.Context(), query("SELECT 1"), ignore)
			if err == nil {
				t.Fatal("no error")
			}
			telling, noise := strings.Index(err.Error(), test.want), strings.Index(err.Error(), "refused TLS")
			if telling < 0 || noise >= 0 && noise < telling || strings.Contains(err.Error(), "TLS off") || !strings.Contains(err.Error(), test.hint) {
				t.Errorf("error is %v", err)
			}
		})
	}
}
