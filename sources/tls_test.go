package sources_test

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"sql2metrics/config"
	"sql2metrics/sources"
)

func TestTLSConfig(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	serverCert, serverKey := ca.issue(t, "db.example")
	pair, err := tls.X509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	clientCert, clientKey := ca.issue(t, "mon")
	cert, key := tempFile(t, clientCert), tempFile(t, clientKey)

	for name, test := range map[string]struct {
		tls  config.TLS
		host string
		want string // part of the error, plain, or who the server took the client for
	}{
		"unset":                      {config.TLS{}, "db.example", "plain"},
		"disable":                    {config.TLS{Mode: "disable"}, "db.example", "plain"},
		"allow":                      {config.TLS{Mode: "allow"}, "db.example", "plain"},
		"prefer":                     {config.TLS{Mode: "prefer"}, "elsewhere", ""},
		"prefer, other authority":    {config.TLS{Mode: "prefer", CAFile: other.file}, "elsewhere", ""},
		"require":                    {config.TLS{Mode: "require"}, "elsewhere", ""},
		"require, authority":         {config.TLS{Mode: "require", CAFile: ca.file}, "elsewhere", ""},
		"require, other authority":   {config.TLS{Mode: "require", CAFile: other.file}, "db.example", "unknown authority"},
		"verify-ca":                  {config.TLS{Mode: "verify-ca", CAFile: ca.file}, "elsewhere", ""},
		"verify-ca, other authority": {config.TLS{Mode: "verify-ca", CAFile: other.file}, "db.example", "unknown authority"},
		"verify-ca, system":          {config.TLS{Mode: "verify-ca"}, "db.example", "unknown authority"},
		"verify-full":                {config.TLS{Mode: "verify-full", CAFile: ca.file}, "db.example", ""},
		"verify-full, other name":    {config.TLS{Mode: "verify-full", CAFile: ca.file}, "elsewhere", "not elsewhere"},
		"verify-full, given name":    {config.TLS{Mode: "verify-full", CAFile: ca.file, ServerName: "db.example"}, "elsewhere", ""},
		"verify-full, system":        {config.TLS{Mode: "verify-full"}, "db.example", "unknown authority"},
		"client certificate":         {config.TLS{Mode: "require", CertFile: cert, KeyFile: key}, "db.example", "mon"},
		"unknown mode":               {config.TLS{Mode: "on"}, "db.example", "set it to disable"},
		"no ca file":                 {config.TLS{Mode: "require", CAFile: "/no/such"}, "db.example", "read tls_config.ca_file /no/such: no such file"},
		"ca file without one":        {config.TLS{Mode: "require", CAFile: tempFile(t, []byte("x"))}, "db.example", "no certificate in PEM"},
		"no key file":                {config.TLS{Mode: "require", CertFile: cert, KeyFile: "/no/such"}, "db.example", "read tls_config.key_file /no/such: no such file"},
		"key of another":             {config.TLS{Mode: "require", CertFile: cert, KeyFile: tempFile(t, serverKey)}, "db.example", "does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := sources.TLSConfig(test.tls, test.host)
			got := "plain"
			if c != nil {
				got, err = handshake(t, c, pair)
			}
			if err != nil {
				got = err.Error()
			}
			if test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// handshake returns who a server takes a client for.
func handshake(t *testing.T, client *tls.Config, server tls.Certificate) (string, error) {
	t.Helper()
	names := make(chan string, 1)
	l := fakeServer(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert})
		name := ""
		if s.Handshake() == nil && len(s.ConnectionState().PeerCertificates) > 0 {
			name = s.ConnectionState().PeerCertificates[0].Subject.CommonName
		}
		names <- name
	})
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return <-names, nil
}
