package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	promconfig "github.com/prometheus/common/config"
)

// endpoint is one entry of remote_write as it was read.
type endpoint struct {
	object
	RemoteWrite
	queue object
}

var endpointTable = table[endpoint]{
	fields: map[string]func(node, *endpoint){
		"url":                   func(n node, e *endpoint) { n.httpURL(&e.URL) },
		"name":                  func(n node, e *endpoint) { n.string(&e.Name) },
		"remote_timeout":        func(n node, e *endpoint) { n.duration(&e.RemoteTimeout) },
		"protobuf_message":      func(n node, e *endpoint) { oneOf(n, &e.Protocol, ProtocolV1, ProtocolV2) },
		"headers":               func(n node, e *endpoint) { e.Headers = n.headers() },
		"write_relabel_configs": func(n node, e *endpoint) { e.WriteRelabel = n.relabelConfigs() },
		"queue_config":          func(n node, e *endpoint) { e.queue = decode(n, queueTable, &e.Queue) },

		"basic_auth":             func(n node, e *endpoint) { e.HTTP.BasicAuth = n.basicAuth() },
		"authorization":          func(n node, e *endpoint) { e.HTTP.Authorization = n.authorization() },
		"bearer_token":           func(n node, e *endpoint) { n.promSecret(&e.HTTP.BearerToken) },
		"bearer_token_file":      func(n node, e *endpoint) { n.fileName(&e.HTTP.BearerTokenFile) },
		"tls_config":             func(n node, e *endpoint) { n.tlsConfig(&e.HTTP.TLSConfig) },
		"enable_http2":           func(n node, e *endpoint) { n.bool(&e.HTTP.EnableHTTP2) },
		"follow_redirects":       func(n node, _ *endpoint) { n.noRedirects() },
		"proxy_url":              func(n node, e *endpoint) { n.httpURL(&e.HTTP.ProxyURL.URL) },
		"no_proxy":               func(n node, e *endpoint) { n.string(&e.HTTP.NoProxy) },
		"proxy_from_environment": func(n node, e *endpoint) { n.bool(&e.HTTP.ProxyFromEnvironment) },
	},
	refused: map[string]refusal{
		"oauth2":                 notYet,
		"proxy_connect_header":   notYet,
		"sigv4":                  notYet,
		"azuread":                notYet,
		"google_iam":             notYet,
		"metadata_config":        notYet,
		"send_exemplars":         notYet,
		"send_native_histograms": notYet,
		"round_robin_dns":        notYet,
		"failed_request_logging": notYet,
		"http_headers":           {"is not supported by this version", "use headers"},
	},
}

// queueTable refuses what Prometheus needs and a queue on disk does not.
var queueTable = table[Queue]{
	fields: map[string]func(node, *Queue){
		"max_shards":           func(n node, q *Queue) { n.int(1, &q.MaxShards) },
		"max_samples_per_send": func(n node, q *Queue) { n.int(1, &q.MaxSamplesPerSend) },
		"batch_send_deadline":  func(n node, q *Queue) { n.duration(&q.BatchSendDeadline) },
		"min_backoff":          func(n node, q *Queue) { n.duration(&q.MinBackoff) },
		"max_backoff":          func(n node, q *Queue) { n.duration(&q.MaxBackoff) },
	},
	refused: map[string]refusal{
		"capacity":          {"means nothing here: samples wait in the log on disk, not in a queue in memory", "delete it; storage.max_bytes bounds the log"},
		"min_shards":        {"means nothing here: requests in flight follow the backlog by themselves, from one up to max_shards", "delete it"},
		"retry_on_http_429": {"means nothing here: 429 is always retried", "delete it"},
		"sample_age_limit":  {"means nothing here: no sample is dropped for its age before the receiver has refused it", "delete it; storage.max_bytes bounds the backlog"},
	},
}

// decodeEndpoint reads an entry of remote_write and checks it.
func decodeEndpoint(n node) *endpoint {
	e := &endpoint{RemoteWrite: DefaultRemoteWrite()}
	before := len(n.in.load.errs)
	e.object = decode(n, endpointTable, e)
	e.require("url", "write the URL that takes remote write, such as https://mimir/api/v1/push")
	if e.Name == "" && e.URL != nil {
		e.Name = defaultName(e.URL)
	}
	e.takeLogin()
	if e.Queue.MaxBackoff < e.Queue.MinBackoff {
		at := e.queue.at("max_backoff")
		at.fail(fmt.Sprintf("max_backoff %s is below min_backoff %s", prometheusDuration(e.Queue.MaxBackoff), prometheusDuration(e.Queue.MinBackoff)),
			"make max_backoff the larger")
	}
	e.exclusive("basic_auth", "authorization", "bearer_token", "bearer_token_file")
	if len(n.in.load.errs) == before {
		e.finishHTTP()
	}
	return e
}

// Format implements [fmt.Formatter]: an endpoint prints as its name and URL.
// The types of its HTTP settings hide their secrets from some verbs only.
func (r RemoteWrite) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s at %s", r.Name, r.URL)
}

// takeLogin moves a login in the URL to where it is not printed.
func (e *endpoint) takeLogin() {
	if e.URL == nil || e.URL.User == nil {
		return
	}
	for _, f := range []string{"basic_auth", "authorization", "bearer_token", "bearer_token_file"} {
		if e.has(f) {
			e.at(f).fail("stands beside a login in url", "keep one of the two")
			return
		}
	}
	password, _ := e.URL.User.Password()
	e.HTTP.BasicAuth = &promconfig.BasicAuth{Username: e.URL.User.Username(), Password: promconfig.Secret(password)}
	e.URL.User = nil
}

// defaultName is short, stable and free of secrets: a hash of the URL without
// its password.
func defaultName(u *url.URL) string {
	public := *u
	if u.User != nil {
		public.User = url.User(u.User.Username())
	}
	sum := sha256.Sum256([]byte(public.String()))
	return hex.EncodeToString(sum[:4])
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

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// ownHeaders are set by the protocol or by the HTTP client.
var ownHeaders = []string{
	"Host", "Content-Encoding", "Content-Length", "Content-Type", "User-Agent",
	"Connection", "Keep-Alive", "Transfer-Encoding", "Accept-Encoding",
	"Proxy-Authenticate", "Proxy-Authorization", "Www-Authenticate",
	"X-Prometheus-Remote-Write-Version", "X-Prometheus-Remote-Read-Version",
}

// headers returns additional headers of a request.
func (n node) headers() map[string]Secret {
	all := map[string]Secret{}
	first := map[string]node{}
	for _, h := range n.entries() {
		name := http.CanonicalHeaderKey(h.key)
		other, twice := first[name]
		switch {
		case !headerName.MatchString(h.key):
			h.value.fail(fmt.Sprintf("%q is not a name of a header", h.key), "write letters, digits and dashes")
		case name == "Authorization":
			h.value.fail("logs in beside the fields that do", "use basic_auth or authorization")
		case slices.Contains(ownHeaders, name):
			h.value.fail("is set by the agent", "delete it")
		case twice:
			h.value.fail(fmt.Sprintf("is the header on line %d in other letters", other.line), "keep one of the two")
		default:
			first[name] = h.value
			var value Secret
			if h.value.secret(&value); value.IsSet() && h.value.headerValue(value.Reveal()) {
				all[h.key] = value
			}
		}
	}
	return all
}

// headerValue reports what HTTP takes in no header.
func (n node) headerValue(s string) bool {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) >= 0 {
		n.fail("has a line break or another control character", "write the value on one line")
		return false
	}
	return true
}
