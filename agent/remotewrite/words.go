package remotewrite

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/oauth2"
)

// What others say goes into the log, the status page and the dead letter. It is
// made short and printable, and what may be secret is left out.

// maxWords bounds, in bytes, what is kept of an answer or an error.
const maxWords = 1 << 10

// printable returns the beginning of s as one line of text.
func printable(s string) string {
	cut := len(s) > maxWords
	if cut {
		s = s[:maxWords]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if cut {
		s += " …"
	}
	return s
}

// tokenError is what an OAuth2 token endpoint answers in place of a token. Its
// words are left out: there are some that repeat what they were sent.
type tokenError struct{ status int }

func (e *tokenError) Error() string {
	return fmt.Sprintf("the token endpoint of oauth2 answers %d %s", e.status, http.StatusText(e.status))
}

// final tells whether the answer stays the same until somebody changes
// something. Some say what is wrong with a 200.
func (e *tokenError) final() bool {
	return e.status/100 != 5 && e.status != http.StatusTooManyRequests && e.status != http.StatusRequestTimeout
}

// withoutSecrets strips what may be secret from the error of an attempt: the
// user, path and query of every URL in it, that of a token endpoint too, and
// what such an endpoint says.
func withoutSecrets(err error) error {
	var token *oauth2.RetrieveError
	if errors.As(err, &token) {
		return &tokenError{token.Response.StatusCode}
	}
	for e := (*url.Error)(nil); errors.As(err, &e); {
		err = e.Err
	}
	return err
}
