package config

import (
	"encoding/json"
	"net/url"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/sigv4"
)

// logins are the fields that say who is sending; one block has at most one.
var logins = []string{"basic_auth", "authorization", "oauth2", "sigv4", "bearer_token", "bearer_token_file"}

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

// jwtBearer is the grant type of RFC 7523, which needs a private key.
const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

var oauth2Table = table[promconfig.OAuth2]{
	fields: map[string]func(node, *promconfig.OAuth2){
		"client_id":                   func(n node, a *promconfig.OAuth2) { n.expand(&a.ClientID) },
		"client_secret":               func(n node, a *promconfig.OAuth2) { n.promSecret(&a.ClientSecret) },
		"client_secret_file":          func(n node, a *promconfig.OAuth2) { n.fileName(&a.ClientSecretFile) },
		"client_certificate_key_id":   func(n node, a *promconfig.OAuth2) { n.expand(&a.ClientCertificateKeyID) },
		"client_certificate_key":      func(n node, a *promconfig.OAuth2) { n.promSecret(&a.ClientCertificateKey) },
		"client_certificate_key_file": func(n node, a *promconfig.OAuth2) { n.fileName(&a.ClientCertificateKeyFile) },
		"grant_type":                  func(n node, a *promconfig.OAuth2) { oneOf(n, &a.GrantType, "client_credentials", jwtBearer) },
		"signature_algorithm":         func(n node, a *promconfig.OAuth2) { oneOf(n, &a.SignatureAlgorithm, "RS256", "RS384", "RS512") },
		"iss":                         func(n node, a *promconfig.OAuth2) { n.expand(&a.Iss) },
		"audience":                    func(n node, a *promconfig.OAuth2) { n.expand(&a.Audience) },
		"claims":                      func(n node, a *promconfig.OAuth2) { n.claims(&a.Claims) },
		"scopes":                      func(n node, a *promconfig.OAuth2) { a.Scopes = keys(n.texts()) },
		"token_url":                   func(n node, a *promconfig.OAuth2) { n.tokenURL(&a.TokenURL) },
		"endpoint_params":             func(n node, a *promconfig.OAuth2) { a.EndpointParams = n.expandedEntries() },
		"tls_config":                  func(n node, a *promconfig.OAuth2) { n.tlsConfig(&a.TLSConfig) },
		"proxy_url":                   func(n node, a *promconfig.OAuth2) { n.httpURL(&a.ProxyURL.URL) },
		"no_proxy":                    func(n node, a *promconfig.OAuth2) { n.string(&a.NoProxy) },
		"proxy_from_environment":      func(n node, a *promconfig.OAuth2) { n.bool(&a.ProxyFromEnvironment) },
	},
	refused: map[string]refusal{
		"client_secret_ref":          noSecretManager,
		"client_certificate_key_ref": noSecretManager,
		"proxy_connect_header":       noConnectHeader,
	},
}

var sigv4Table = table[sigv4.SigV4Config]{
	fields: map[string]func(node, *sigv4.SigV4Config){
		"region":                func(n node, s *sigv4.SigV4Config) { n.expand(&s.Region) },
		"access_key":            func(n node, s *sigv4.SigV4Config) { n.expand(&s.AccessKey) },
		"secret_key":            func(n node, s *sigv4.SigV4Config) { n.promSecret(&s.SecretKey) },
		"profile":               func(n node, s *sigv4.SigV4Config) { n.expand(&s.Profile) },
		"role_arn":              func(n node, s *sigv4.SigV4Config) { n.expand(&s.RoleARN) },
		"external_id":           func(n node, s *sigv4.SigV4Config) { n.expand(&s.ExternalID) },
		"session_name":          func(n node, s *sigv4.SigV4Config) { n.expand(&s.SessionName) },
		"tags":                  func(n node, s *sigv4.SigV4Config) { s.Tags = n.expandedEntries() },
		"use_fips_sts_endpoint": func(n node, s *sigv4.SigV4Config) { n.bool(&s.UseFIPSSTSEndpoint) },
		"service_name":          func(n node, s *sigv4.SigV4Config) { n.expand(&s.ServiceName) },
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

func (n node) oauth2() *promconfig.OAuth2 {
	a := &promconfig.OAuth2{}
	o := decode(n, oauth2Table, a)
	o.require("client_id", "write the name by which the token server knows the agent")
	o.require("token_url", "write the URL that gives tokens")
	o.exclusive("client_secret", "client_secret_file")
	o.exclusive("client_certificate_key", "client_certificate_key_file")
	if a.GrantType == jwtBearer && !o.has("client_certificate_key_file") {
		o.require("client_certificate_key", "write client_certificate_key_file: this grant_type signs with it")
	}
	o.checkProxy(&a.ProxyConfig)
	return a
}

// sigv4 leaves what is not written to AWS's own chain of environment, profile
// and instance role.
func (n node) sigv4() *sigv4.SigV4Config {
	s := &sigv4.SigV4Config{}
	before := len(n.in.load.errs)
	o := decode(n, sigv4Table, s)
	switch {
	case len(n.in.load.errs) > before:
	case o.has("access_key") != o.has("secret_key"):
		n.fail("has one of access_key and secret_key", "write both, or neither to use AWS's own chain of credentials")
	default:
		if err := s.Validate(); err != nil {
			n.fail(err.Error(), "correct the fields it names")
		}
	}
	return s
}

// takeLogin moves a login in the URL to where it is not printed.
func (o object) takeLogin(u *url.URL, c *promconfig.HTTPClientConfig) {
	if u == nil || u.User == nil {
		return
	}
	for _, f := range logins {
		if o.has(f) {
			o.at(f).fail("stands beside a login in url", "keep one of the two")
			return
		}
	}
	password, _ := u.User.Password()
	c.BasicAuth = &promconfig.BasicAuth{Username: u.User.Username(), Password: promconfig.Secret(password)}
	u.User = nil
}

func (n node) promSecret(into *promconfig.Secret) {
	var s string
	if n.expand(&s); s != "" {
		*into = promconfig.Secret(s)
	}
}

func (n node) tokenURL(into *string) {
	var u *url.URL
	if n.httpURL(&u); u != nil {
		*into = u.String()
	}
}

// expandedEntries returns a mapping of texts.
func (n node) expandedEntries() map[string]string {
	all := map[string]string{}
	for _, e := range n.entries() {
		var s string
		if e.value.expand(&s); s != "" {
			all[e.key] = s
		}
	}
	return all
}

// claims sets *into to values of any kind that a token can hold.
func (n node) claims(into *map[string]any) {
	before := len(n.in.load.errs)
	if n.entries(); len(n.in.load.errs) > before {
		return
	}
	var all map[string]any
	err := n.yaml.Decode(&all)
	if err == nil {
		_, err = json.Marshal(all)
	}
	if err != nil {
		n.fail("holds what JSON cannot", "write texts, numbers, lists and mappings with text before each colon")
		return
	}
	*into = all
}
