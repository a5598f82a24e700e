package sources

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	promconfig "github.com/prometheus/common/config"
	"golang.org/x/oauth2"
)

// shortestSecret is how short a word may be and still be hidden: shorter ones
// stand in any text.
const shortestSecret = 4

// longestSecret is how long a word may be and still be looked for as a whole:
// the effort grows with its square.
const longestSecret = 256

// httpSecrets are what errors of a request must not repeat: its login, and the
// query of the source's URL, as some servers take their keys there. A server may
// show in its answer what it was sent, and net/http shows in its errors what a
// server sent. The zero value hides nothing. It is for one goroutine.
type httpSecrets struct {
	config *promconfig.HTTPClientConfig
	source *url.URL // the source's
	asked  *url.URL // the request's
	sent   []http.Header
}

type secretsKey struct{}

// watch returns ctx for a request whose headers are to be known.
func (s *httpSecrets) watch(ctx context.Context) context.Context {
	return context.WithValue(ctx, secretsKey{}, s)
}

// watched carries requests, and tells their secrets what is sent.
type watched struct{ *http.Transport }

// RoundTrip implements [http.RoundTripper].
func (w watched) RoundTrip(req *http.Request) (*http.Response, error) {
	if s, ok := req.Context().Value(secretsKey{}).(*httpSecrets); ok {
		s.sent = append(s.sent, req.Header)
	}
	return w.Transport.RoundTrip(req)
}

// words returns the secrets, longer ones first.
func (s *httpSecrets) words() (words []string) {
	add := func(more ...string) {
		for _, word := range more {
			words = append(words, pieces(word)...)
		}
	}
	for _, header := range s.sent {
		for name, values := range header {
			for _, value := range values {
				if name == "Authorization" {
					add(authorizationWords(value)...)
				} else if s.secretHeader(name) {
					add(append(strings.Fields(value), value)...)
				}
			}
		}
	}
	if s.config != nil {
		add(configuredWords(s.config)...)
	}
	if s.source != nil {
		add(queryWords(s.source.RawQuery)...)
		for name, values := range s.source.Query() {
			for _, value := range values {
				if isLoginName(name) || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsLetter(r) }) {
					add(value) // and not the json of format=json
				}
			}
		}
	}
	if s.asked != nil {
		add(queryWords(s.asked.RawQuery)...)
	}
	words = slices.DeleteFunc(words, func(word string) bool { return len(word) < shortestSecret })
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(words)
}

// pieces cuts a word that is too long to be looked for.
func pieces(word string) (cut []string) {
	for len(word) > longestSecret {
		at := longestSecret
		for at > longestSecret-utf8.UTFMax && !utf8.RuneStart(word[at]) {
			at--
		}
		cut, word = append(cut, word[:at]), word[at:]
	}
	return append(cut, word)
}

// secretHeader tells whether the configuration calls the values of a header
// secret.
func (s *httpSecrets) secretHeader(name string) bool {
	if s.config == nil || s.config.HTTPHeaders == nil {
		return false
	}
	for other, h := range s.config.HTTPHeaders.Headers {
		if http.CanonicalHeaderKey(other) == name && len(h.Secrets)+len(h.Files) > 0 {
			return true
		}
	}
	return false
}

// authorizationWords are the secrets in a header Authorization.
func authorizationWords(value string) []string {
	_, credentials, ok := strings.Cut(value, " ")
	if !ok {
		credentials = value
	}
	words := append(strings.Fields(credentials), credentials)
	if plain, err := base64.StdEncoding.DecodeString(credentials); err == nil {
		_, password, _ := strings.Cut(string(plain), ":")
		words = append(words, password)
	}
	return words
}

// configuredWords are the secrets that are sent to others than the server: to
// its proxy, and to the endpoint of OAuth2.
func configuredWords(c *promconfig.HTTPClientConfig) (words []string) {
	if c.ProxyURL.URL != nil && c.ProxyURL.User != nil {
		password, _ := c.ProxyURL.User.Password()
		login := c.ProxyURL.User.Username() + ":" + password
		words = append(words, password, base64.StdEncoding.EncodeToString([]byte(login)))
	}
	if o := c.OAuth2; o != nil {
		if r := secretReader(o.ClientSecret, o.ClientSecretFile); r != nil {
			secret, _ := r.Fetch(context.Background()) // a file that cannot be read was not sent
			login := url.QueryEscape(o.ClientID) + ":" + url.QueryEscape(secret)
			words = append(words, secret, base64.StdEncoding.EncodeToString([]byte(login)))
		}
	}
	return words
}

// queryWords are the query of a URL as it is sent, and as some show it.
func queryWords(raw string) []string {
	plain, err := url.QueryUnescape(raw)
	if err != nil {
		plain = raw
	}
	return []string{raw, plain}
}

// hide replaces the secrets in text, however they are escaped there, also where
// the text breaks off within one.
func (s *httpSecrets) hide(text string) string {
	const hidden = "<secret>"
	for _, word := range s.words() {
		spelled, err := spellings(word)
		if err != nil {
			return hidden // there is no looking for it
		}
		text = spelled.ReplaceAllLiteralString(text, hidden)
		whole, more := strings.CutSuffix(text, "…")
		for n := len(word) - 1; n >= shortestSecret; n-- {
			if before, found := strings.CutSuffix(whole, word[:n]); found {
				text = before + hidden
				if more {
					text += "…"
				}
				break
			}
		}
	}
	return text
}

// entities are the characters that HTML has names for and JSON, too, escapes.
var entities = map[rune]string{'"': "quot", '&': "amp", '\'': "apos", '<': "lt", '>': "gt"}

// blanks finds white space of ASCII.
const blanks = `(?:[\s\v]|\+|%20|%0[9a-d]|\\+[tnvfr]|\\+[ux](?:00)?(?:20|0[9a-d])|&#(?:32|9|1[0-3]|x20|x0?[9a-d]);|&nbsp;)+`

// unprintable finds whatever may stand for a byte that is no text.
const unprintable = `(?s:.|(?:%[0-9a-f]{2})+|\\+[a-z]|\\+x[0-9a-f]{2}|\\+u[0-9a-f]{4}|&#x?[0-9a-f]+;)`

// spellings returns what finds a word in what a server says: as it is, in upper
// or lower case, escaped as in JSON, in a URL or in HTML, and with any white
// space for its own.
func spellings(word string) (*regexp.Regexp, error) {
	var p strings.Builder
	p.WriteString("(?i)")
	for i, field := range strings.FieldsFunc(word, func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) }) {
		if i > 0 {
			p.WriteString(blanks)
		}
		for _, r := range field {
			switch {
			case r == utf8.RuneError, unicode.IsControl(r):
				p.WriteString(unprintable)
			case r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)):
				p.WriteRune(r)
			default:
				p.WriteString(escapes(r))
			}
		}
	}
	return regexp.Compile(p.String())
}

// escapes returns the expression for a character and all that may stand for it.
func escapes(r rune) string {
	e := fmt.Sprintf(`(?:\\*%s|\\+u0*%x|\\+x%02[2]x|&#0*%d;|&#x0*%[2]x;`, regexp.QuoteMeta(string(r)), r, r)
	if name, ok := entities[r]; ok {
		e += "|&" + name + ";"
	}
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		e += fmt.Sprintf(`|\\+u%x\\+u%x`, high, low)
	}
	e += "|"
	for _, b := range []byte(string(r)) {
		e += fmt.Sprintf("%%%02x", b)
	}
	return e + ")"
}

// excerpt returns the beginning of what a server sent for an error, as
// [excerpt] does.
func (s *httpSecrets) excerpt(text []byte) string { return excerpt([]byte(s.hide(string(text)))) }

// cover returns err with a text that has no secrets.
func (s *httpSecrets) cover(err error) error {
	if err == nil {
		return nil
	}
	return reworded(err, s.hide(err.Error()))
}

// coverSent does the same for an error of net/http. It also takes the URLs out
// of it, what an endpoint of OAuth2 says, as there are some that repeat what
// they were sent, and most of a long line that is no HTTP.
func (s *httpSecrets) coverSent(err error) error {
	var token *oauth2.RetrieveError
	if errors.As(err, &token) {
		return fmt.Errorf("the token_url of oauth2 answered %s: correct client_id, client_secret or scopes", statusText(token.Response.StatusCode))
	}
	err = withoutURL(err)
	text := printable(s.hide(err.Error()))
	if len(text) > 2*maxSaid {
		text = excerpt([]byte(text))
	}
	return reworded(err, text)
}

// withoutURL leaves out the URL that net/http and net/url put before an error.
func withoutURL(err error) error {
	for wrapped := (*url.Error)(nil); errors.As(err, &wrapped); {
		err = wrapped.Err
	}
	return err
}

// rewordedError is an error with another text.
type rewordedError struct {
	err  error
	text string
}

func reworded(err error, text string) error {
	if text == err.Error() {
		return err
	}
	return &rewordedError{err, text}
}

func (e *rewordedError) Error() string { return e.text }
func (e *rewordedError) Unwrap() error { return e.err }
