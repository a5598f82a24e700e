package config

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	promconfig "github.com/prometheus/common/config"
)

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// headerTable is one entry of http_headers.
var headerTable = table[promconfig.Header]{
	fields: map[string]func(node, *promconfig.Header){
		"values": func(n node, h *promconfig.Header) { h.Values = n.headerValues() },
		"secrets": func(n node, h *promconfig.Header) {
			for _, value := range n.headerValues() {
				h.Secrets = append(h.Secrets, promconfig.Secret(value))
			}
		},
		"files": func(n node, h *promconfig.Header) {
			for _, item := range n.list() {
				var name string
				if item.fileName(&name); name != "" {
					h.Files = append(h.Files, name)
				}
			}
		},
	},
}

// headers returns additional headers of a request.
func (n node) headers() map[string]Secret {
	all := map[string]Secret{}
	for _, h := range n.headerEntries() {
		var value Secret
		if h.value.secret(&value); value.IsSet() && h.value.headerValue(value.Reveal()) {
			all[h.key] = value
		}
	}
	return all
}

// httpHeaders returns additional headers that may have several values and
// come from files.
func (n node) httpHeaders() *promconfig.Headers {
	all := &promconfig.Headers{Headers: map[string]promconfig.Header{}}
	for _, e := range n.headerEntries() {
		var h promconfig.Header
		before := len(n.in.load.errs)
		decode(e.value, headerTable, &h)
		if len(n.in.load.errs) == before && len(h.Values)+len(h.Secrets)+len(h.Files) == 0 {
			e.value.fail("has no value", "write values, secrets or files, each a list")
		}
		all.Headers[e.key] = h
	}
	return all
}

// headerEntries returns the entries of a mapping of headers that have a name
// we do not need ourselves.
func (n node) headerEntries() []entry {
	var all []entry
	first := map[string]node{}
	for _, h := range n.entries() {
		name := http.CanonicalHeaderKey(h.key)
		other, twice := first[name]
		switch {
		case !headerName.MatchString(h.key):
			h.value.fail(fmt.Sprintf("%q is not a name of a header", h.key), "write letters, digits and dashes")
		case name == "Authorization":
			h.value.fail("logs in beside the fields that do", "use basic_auth or authorization")
		case reservedHeader(name):
			h.value.fail("is set by the agent", "delete it")
		case twice:
			h.value.fail(fmt.Sprintf("is the header on line %d in other letters", other.line), "keep one of the two")
		default:
			first[name] = h.value
			all = append(all, h)
		}
	}
	return all
}

// reservedHeader tells whether a header is set by the protocol, by a signature
// or by the HTTP client. The name is canonical.
func reservedHeader(name string) bool {
	_, reserved := promconfig.ReservedHeaders[name]
	return reserved || name == "Transfer-Encoding"
}

// headerValues returns a list of values, each with its references resolved.
func (n node) headerValues() []string {
	var all []string
	for _, item := range n.list() {
		var s string
		if item.expand(&s); s != "" && item.headerValue(s) {
			all = append(all, s)
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

// checkHeaders reports a header that stands in both headers and http_headers.
func (e *endpoint) checkHeaders() {
	if e.HTTP.HTTPHeaders == nil {
		return
	}
	canonical := map[string]bool{}
	for name := range e.Headers {
		canonical[http.CanonicalHeaderKey(name)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(e.HTTP.HTTPHeaders.Headers)) {
		if canonical[http.CanonicalHeaderKey(name)] {
			e.at("http_headers").fail(fmt.Sprintf("sets %s, as headers on line %d does", name, e.at("headers").line), "keep one of the two")
		}
	}
}
