package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"

	"github.com/alecthomas/units"
	promconfig "github.com/prometheus/common/config"
)

// The settings of an HTTP client are Prometheus's own types. They are decoded
// field by field all the same: its decoder stops at the first error and knows
// no environment.

// clientTable are the fields that lie open in an endpoint and in a source that
// is scraped.
var clientTable = table[promconfig.HTTPClientConfig]{
	fields: map[string]func(node, *promconfig.HTTPClientConfig){
		"basic_auth":             func(n node, c *promconfig.HTTPClientConfig) { c.BasicAuth = n.basicAuth() },
		"authorization":          func(n node, c *promconfig.HTTPClientConfig) { c.Authorization = n.authorization() },
		"oauth2":                 func(n node, c *promconfig.HTTPClientConfig) { c.OAuth2 = n.oauth2() },
		"bearer_token":           func(n node, c *promconfig.HTTPClientConfig) { n.promSecret(&c.BearerToken) },
		"bearer_token_file":      func(n node, c *promconfig.HTTPClientConfig) { n.fileName(&c.BearerTokenFile) },
		"tls_config":             func(n node, c *promconfig.HTTPClientConfig) { n.tlsConfig(&c.TLSConfig) },
		"enable_http2":           func(n node, c *promconfig.HTTPClientConfig) { n.bool(&c.EnableHTTP2) },
		"follow_redirects":       func(n node, c *promconfig.HTTPClientConfig) { n.bool(&c.FollowRedirects) },
		"proxy_url":              func(n node, c *promconfig.HTTPClientConfig) { n.httpURL(&c.ProxyURL.URL) },
		"no_proxy":               func(n node, c *promconfig.HTTPClientConfig) { n.string(&c.NoProxy) },
		"proxy_from_environment": func(n node, c *promconfig.HTTPClientConfig) { n.bool(&c.ProxyFromEnvironment) },
		"http_headers":           func(n node, c *promconfig.HTTPClientConfig) { c.HTTPHeaders = n.httpHeaders() },
	},
}

// noConnectHeader refuses a map of secrets that lies open in Prometheus's type,
// where a print of an unexported field would show it.
var noConnectHeader = refusal{"is not supported: its values could not be kept from being printed", "write the proxy's login in proxy_url"}

// withClient returns the fields of a T together with those of the HTTP client
// in it. Fields of T come before those of the client.
func withClient[T any](client func(*T) *promconfig.HTTPClientConfig, fields map[string]func(node, *T)) map[string]func(node, *T) {
	return withPart(client, clientTable.fields, fields)
}

// withPart returns the fields of a T together with those of a part of it. Fields
// of T come before those of the part.
func withPart[T, P any](part func(*T) *P, ofPart map[string]func(node, *P), fields map[string]func(node, *T)) map[string]func(node, *T) {
	all := map[string]func(node, *T){}
	for name, set := range ofPart {
		all[name] = func(n node, into *T) { set(n, part(into)) }
	}
	maps.Copy(all, fields)
	return all
}

var tlsTable = table[promconfig.TLSConfig]{
	fields: map[string]func(node, *promconfig.TLSConfig){
		"ca":                   func(n node, t *promconfig.TLSConfig) { n.expand(&t.CA) },
		"cert":                 func(n node, t *promconfig.TLSConfig) { n.expand(&t.Cert) },
		"ca_file":              func(n node, t *promconfig.TLSConfig) { n.fileName(&t.CAFile) },
		"cert_file":            func(n node, t *promconfig.TLSConfig) { n.fileName(&t.CertFile) },
		"key_file":             func(n node, t *promconfig.TLSConfig) { n.fileName(&t.KeyFile) },
		"server_name":          func(n node, t *promconfig.TLSConfig) { n.expand(&t.ServerName) },
		"insecure_skip_verify": func(n node, t *promconfig.TLSConfig) { n.bool(&t.InsecureSkipVerify) },
		"min_version":          func(n node, t *promconfig.TLSConfig) { n.tlsVersion(&t.MinVersion) },
		"max_version":          func(n node, t *promconfig.TLSConfig) { n.tlsVersion(&t.MaxVersion) },
	},
	refused: map[string]refusal{
		// TLSConfig keeps the key in a plain string field, which a print of
		// the configuration would show.
		"key":      {"is a private key in the configuration", "write it to a file and name that as key_file"},
		"ca_ref":   noSecretManager,
		"cert_ref": noSecretManager,
		"key_ref":  noSecretManager,
	},
}

func (n node) tlsConfig(into *promconfig.TLSConfig) {
	before := len(n.in.load.errs)
	o := decode(n, tlsTable, into)
	complete := len(n.in.load.errs) == before
	o.exclusive("ca", "ca_file")
	o.exclusive("cert", "cert_file")
	if hasCert := o.has("cert") || o.has("cert_file"); complete && hasCert != o.has("key_file") {
		n.fail("has one of a client certificate and its key", "write both, or delete it")
	}
	if into.MaxVersion != 0 && into.MaxVersion < into.MinVersion {
		o.at("max_version").fail("is below min_version", "make it the higher")
	}
}

func (n node) tlsVersion(into *promconfig.TLSVersion) {
	s := ""
	if oneOf(n, &s, slices.Sorted(maps.Keys(promconfig.TLSVersions))...); s != "" {
		*into = promconfig.TLSVersions[s]
	}
}

// httpURL sets *into to an absolute URL of HTTP. The URL may hold a password
// and is never printed.
func (n node) httpURL(into **url.URL) {
	var s string
	if n.expand(&s); s == "" {
		return
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		n.fail("is not a URL", "write http://host/path or https://host/path; escape special characters in a password as %40")
	case u.Scheme != "http" && u.Scheme != "https":
		n.fail("does not begin with http:// or https://", "write http://host/path or https://host/path")
	case u.Hostname() == "":
		n.fail("names no host", "write http://host/path or https://host/path")
	default:
		*into = u
	}
}

// checkProxy reports fields of a proxy that do not go together and tells
// whether all do.
func (o object) checkProxy(p *promconfig.ProxyConfig) bool {
	before := len(o.in.load.errs)
	switch {
	case o.has("no_proxy") && !o.has("proxy_url"):
		o.at("no_proxy").fail("excepts hosts from a proxy that is not there", "write proxy_url, or delete it")
	case o.has("proxy_url") && p.ProxyFromEnvironment:
		o.exclusive("proxy_url", "proxy_from_environment")
	}
	return len(o.in.load.errs) == before
}

// checkClient checks what the fields of a client mean together. Prometheus's
// own validation comes last: it also turns bearer_token into authorization.
func (o object) checkClient(c *promconfig.HTTPClientConfig) {
	if !o.checkProxy(&c.ProxyConfig) {
		return
	}
	if err := c.Validate(); err != nil {
		o.at("authorization").fail(err.Error(), "correct the fields it names")
	}
}

// finishHTTP fills in and checks what a source needs that is asked by HTTP.
// before is how many errors there were ahead of it, path that of a URL without
// one, remedy what to do where there is no URL.
func (s *source) finishHTTP(before int, path, remedy string) {
	if !s.has("enable_http2") {
		s.HTTP.EnableHTTP2 = promconfig.DefaultHTTPClientConfig.EnableHTTP2
	}
	if !s.has("follow_redirects") {
		s.HTTP.FollowRedirects = promconfig.DefaultHTTPClientConfig.FollowRedirects
	}
	if s.has("tls_config") {
		s.at("tls_config").tlsConfig(&s.HTTP.TLSConfig)
	}
	s.exclusive(logins...)
	s.takeLogin(s.URL, &s.HTTP)
	if len(s.in.load.errs) == before {
		s.checkClient(&s.HTTP)
	}
	if s.BodySizeLimit == 0 {
		s.BodySizeLimit = defaultBodySizeLimit
	}
	if !s.require("url", remedy) || s.URL == nil {
		return
	}
	if s.URL.Path == "" {
		s.URL.Path = path
	}
	if s.Instance == "" {
		port := s.URL.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[s.URL.Scheme]
		}
		s.Instance = net.JoinHostPort(s.URL.Hostname(), port)
	}
}

// bodySize sets *into to a size from 0 in Prometheus's spelling of them, in
// which MB and MiB are the same.
func (n node) bodySize(into *int64) {
	s, ok := n.text()
	if !ok {
		return
	}
	size, err := units.ParseBase2Bytes(s)
	if err != nil || size < 0 {
		n.fail(fmt.Sprintf("%q is not a size", s), "write one as Prometheus does, in B, KB, MB or GB, which count by 1024, such as 10MB")
		return
	}
	*into = int64(size)
}
