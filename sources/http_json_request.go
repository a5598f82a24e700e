package sources

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"sql2metrics/config"
)

// errNoURL is for a source of which nobody has said where it is.
var errNoURL = errors.New("no server to ask; set url")

// parseJSONRequest returns the request that the text of q stands for, as files
// of requests spell it: a method and a reference, lines of headers, an empty
// line, a body. The reference is relative to the source's URL.
func parseJSONRequest(s config.Source, q config.Query) (httpRequest, error) {
	if s.URL == nil {
		return httpRequest{}, errNoURL
	}
	text := strings.TrimLeft(q.SQL, " \t\r\n")
	head, body := text, ""
	for _, empty := range []string{"\n\n", "\n\r\n"} {
		if before, after, found := strings.Cut(text, empty); found && len(before) < len(head) {
			head, body = before, after
		}
	}
	first, headers, _ := strings.Cut(strings.TrimRight(head, "\r\n"), "\n")
	first = strings.TrimSpace(first)
	word, reference := first, ""
	if blank := strings.IndexFunc(first, unicode.IsSpace); blank >= 0 {
		word, reference = first[:blank], first[blank:]
	}
	method, err := jsonMethod(word, s.AllowPost)
	if err != nil {
		return httpRequest{}, err
	}
	r := httpRequest{method: method, body: body, header: http.Header{"Accept": {"application/json"}}}
	if r.url, err = resolve(s.URL, strings.TrimSpace(reference)); err != nil {
		return httpRequest{}, err
	}
	if err := addHeaders(r.header, headers); err != nil {
		return httpRequest{}, err
	}
	switch {
	case method != http.MethodPost && strings.TrimSpace(body) != "":
		return httpRequest{}, fmt.Errorf("a %s has no body; delete what stands behind the empty line, or write POST", method)
	case method != http.MethodPost:
		r.body = ""
	default:
		setDefault(r.header, "Content-Type", "application/json")
	}
	if method == http.MethodHead {
		// Of a body that is compressed on its way nobody would learn the length.
		setDefault(r.header, "Accept-Encoding", "identity")
	}
	switch {
	case q.JSON == nil:
		return r, nil
	case method == http.MethodHead:
		return httpRequest{}, errors.New("the answer to a HEAD has no JSON; delete json, its columns are " + strings.Join(headColumns, ", "))
	}
	return r, checkJSONPaths(*q.JSON)
}

// jsonMethod returns the method that a request begins with.
func jsonMethod(word string, allowPost bool) (string, error) {
	allowed := "GET or HEAD"
	if allowPost {
		allowed = "GET, HEAD or POST"
	}
	switch method := strings.ToUpper(word); {
	case method == http.MethodGet, method == http.MethodHead, method == http.MethodPost && allowPost:
		return method, nil
	case method == "":
		return "", errors.New("no request found; write one that begins with " + allowed)
	case method == http.MethodPost:
		return "", errors.New("request begins with POST, which is not sent; where all that it does is to read, set allow_post of the source")
	case method != firstWord(method): // a URL may have a login
		return "", errors.New("request begins with no method; write one that begins with " + allowed)
	default:
		return "", fmt.Errorf("request begins with %s, which is not sent; write one that begins with %s", method, allowed)
	}
}

// resolve returns where a reference leads to from base, which is no other host
// or scheme.
func resolve(base *url.URL, reference string) (*url.URL, error) {
	if reference == "" {
		return base, nil
	}
	if strings.ContainsAny(reference, " \t") {
		return nil, errors.New("the reference behind the method has a blank; write %20 for it, and nothing behind the reference")
	}
	relative, err := url.Parse(reference)
	if err != nil {
		return nil, fmt.Errorf("the reference behind the method cannot be read: %w", new(httpSecrets).coverSent(err))
	}
	to := base.ResolveReference(relative)
	switch {
	case relative.User != nil:
		return nil, errors.New("the reference behind the method has a login; write basic_auth of the source")
	case to.Scheme != base.Scheme, hostPort(to) != hostPort(base):
		return nil, errors.New("the reference behind the method leads to another host or scheme than the url of the source; write a path, or another source")
	}
	to.Fragment, to.RawFragment = "", ""
	return to, nil
}

// ownHeaders are those that are not a query's to write, with whose they are.
var ownHeaders = map[string]string{
	"Host":                   "it is that of the url of the source",
	"Content-Length":         "it follows from the body",
	"Transfer-Encoding":      "it follows from the body",
	"Trailer":                "it follows from the body",
	"Expect":                 "it follows from the body",
	"Connection":             "connections are the agent's",
	"Keep-Alive":             "connections are the agent's",
	"Proxy-Connection":       "connections are the agent's",
	"Upgrade":                "connections are the agent's",
	"Te":                     "connections are the agent's",
	"Accept-Encoding":        "the agent reads gzip",
	"User-Agent":             "it says who asks",
	"X-Http-Method":          "the method is the first word of the request",
	"X-Http-Method-Override": "the method is the first word of the request",
	"X-Method-Override":      "the method is the first word of the request",
	"X-Original-Url":         "what is asked for stands behind the method",
	"X-Rewrite-Url":          "what is asked for stands behind the method",
	"Forwarded":              forOthers,
	"X-Real-Ip":              forOthers,
}

// forOthers says why headers of proxies are not a query's, by which some servers
// decide what a request may do.
const forOthers = "the agent asks for nobody else; where the server wants it, write http_headers of the source"

// loginWords end the names of headers, and of parameters, that carry a login.
var loginWords = []string{
	"apikey", "auth", "authorization", "cookie", "cookie2", "credential", "credentials", "jwt", "key", "pass", "passphrase",
	"passwd", "password", "pw", "pwd", "secret", "session", "session-id", "sessionid", "sid", "sig", "signature", "token",
}

// plainKeys end the names of headers that are no login, although they end with
// key as the names of so many logins do, each server's its own.
var plainKeys = []string{"idempotency-key", "partition-key", "routing-key"}

// isLoginName tells whether a header, or a parameter of a URL, carries a login.
func isLoginName(name string) bool {
	name = "-" + strings.ReplaceAll(strings.ToLower(name), "_", "-")
	ends := func(word string) bool { return strings.HasSuffix(name, "-"+word) }
	return slices.ContainsFunc(loginWords, ends) && !slices.ContainsFunc(plainKeys, ends)
}

// addHeaders adds what lines of headers say.
func addHeaders(h http.Header, lines string) error {
	for line := range strings.Lines(lines) {
		line = strings.TrimRight(line, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		name, value = http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok || !validHeaderName(name) {
			return errors.New("a line behind the first is no header; write Name: value, and an empty line before a body")
		}
		why, own := ownHeaders[name]
		if strings.HasPrefix(name, "X-Forwarded-") {
			why, own = forOthers, true
		}
		if own {
			return fmt.Errorf("header %s is not a query's to write: %s; delete it", name, why)
		}
		if isLoginName(name) {
			return fmt.Errorf("header %s carries a login, which a query would show; write authorization, basic_auth or http_headers of the source", name)
		}
		if strings.ContainsFunc(value, unicode.IsControl) {
			return fmt.Errorf("the value of header %s has a control character; delete that", name)
		}
		if name == "Accept" {
			h.Del(name)
		}
		h.Add(name, value)
	}
	return nil
}

// validHeaderName tells whether name is a token as RFC 9110 defines it.
func validHeaderName(name string) bool {
	for _, r := range name {
		switch {
		case '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', strings.ContainsRune("!#$%&'*+-.^_`|~", r):
		default:
			return false
		}
	}
	return name != ""
}
