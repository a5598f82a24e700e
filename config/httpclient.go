package config

import (
	"maps"
	"slices"

	promconfig "github.com/prometheus/common/config"
)

// The sub-blocks of remote_write whose types are Prometheus's own. They are
// decoded field by field all the same: its decoder stops at the first error
// and knows no environment.

var noSecretManager = refusal{"is not supported: there is no secret manager here", "use the field that ends in _file"}

var basicAuthTable = table[promconfig.BasicAuth]{
	fields: map[string]func(node, *promconfig.BasicAuth){
		"username":      func(n node, a *promconfig.BasicAuth) { n.expand(&a.Username) },
		"username_file": func(n node, a *promconfig.BasicAuth) { n.fileName(&a.UsernameFile) },
		"password":      func(n node, a *promconfig.BasicAuth) { n.promSecret(&a.Password) },
		"password_file": func(n node, a *promconfig.BasicAuth) { n.fileName(&a.PasswordFile) },
	},
	refused: map[string]refusal{"username_ref": noSecretManager, "password_ref": noSecretManager},
}

var authorizationTable = table[promconfig.Authorization]{
	fields: map[string]func(node, *promconfig.Authorization){
		"type":             func(n node, a *promconfig.Authorization) { n.string(&a.Type) },
		"credentials":      func(n node, a *promconfig.Authorization) { n.promSecret(&a.Credentials) },
		"credentials_file": func(n node, a *promconfig.Authorization) { n.fileName(&a.CredentialsFile) },
	},
	refused: map[string]refusal{"credentials_ref": noSecretManager},
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

func (n node) basicAuth() *promconfig.BasicAuth {
	a := &promconfig.BasicAuth{}
	o := decode(n, basicAuthTable, a)
	o.exclusive("username", "username_file")
	o.exclusive("password", "password_file")
	if !o.has("username_file") {
		o.require("username", "write username or username_file")
	}
	return a
}

func (n node) authorization() *promconfig.Authorization {
	a := &promconfig.Authorization{}
	o := decode(n, authorizationTable, a)
	o.exclusive("credentials", "credentials_file")
	if !o.has("credentials_file") {
		o.require("credentials", "write credentials or credentials_file")
	}
	return a
}

func (n node) tlsConfig(into *promconfig.TLSConfig) {
	o := decode(n, tlsTable, into)
	o.exclusive("ca", "ca_file")
	o.exclusive("cert", "cert_file")
	if hasCert := o.has("cert") || o.has("cert_file"); hasCert != o.has("key_file") {
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

func (n node) promSecret(into *promconfig.Secret) {
	var s string
	if n.expand(&s); s != "" {
		*into = promconfig.Secret(s)
	}
}

// noRedirects takes follow_redirects: false, which is what happens anyway.
func (n node) noRedirects() {
	follow := false
	if n.bool(&follow); follow {
		n.fail("redirects are refused here: a redirected POST may become a GET, whose success says nothing about the samples",
			"delete it, and write the final URL")
	}
}

// finishHTTP checks what the fields of the client mean together. Prometheus's
// own validation comes last: it also turns bearer_token into authorization.
func (e *endpoint) finishHTTP() {
	if e.has("no_proxy") && !e.has("proxy_url") {
		e.at("no_proxy").fail("excepts hosts from a proxy that is not there", "write proxy_url, or delete it")
		return
	}
	if e.has("proxy_url") && e.HTTP.ProxyFromEnvironment {
		e.exclusive("proxy_url", "proxy_from_environment")
		return
	}
	if err := e.HTTP.Validate(); err != nil {
		e.at("authorization").fail(err.Error(), "correct the fields it names")
	}
}
