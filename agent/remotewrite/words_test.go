package remotewrite

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	promconfig "github.com/prometheus/common/config"

	"sql2metrics/e2e/servers"
)

func TestPrintable(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plain":           {"out of order sample, größer", "out of order sample, größer"},
		"several lines":   {"one\r\ntwo\n", "one  two"},
		"terminal":        {"\x1b[31mred\x00", "?[31mred?"},
		"not UTF-8":       {"a\xff\xfeb", "a??b"},
		"right to left":   {"a\u202eb", "a?b"},
		"longer than all": {strings.Repeat("x", maxWords+1), strings.Repeat("x", maxWords) + " …"},
		"cut in a rune":   {strings.Repeat("x", maxWords-1) + "ß", strings.Repeat("x", maxWords-1) + "? …"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := printable(c.in); got != c.want {
				t.Errorf("it is %q, want %q", got, c.want)
			}
		})
	}
}

// TestTokenEndpoint has OAuth2 fail: nothing secret is shown, nothing is long,
// and who can mend it is told how.
func TestTokenEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, said string) // nil: nobody answers
		want   EndpointState
		words  string
	}{
		"nobody answers": {nil, EndpointDown, "connection refused"},
		"repeats what it was sent": {func(w http.ResponseWriter, said string) {
			http.Error(w, "wrong: "+said, http.StatusUnauthorized)
		}, EndpointMisconfigured, "401 Unauthorized"},
		"in the words of the standard": {func(w http.ResponseWriter, said string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"`+url.QueryEscape(said)+`"}`)
		}, EndpointMisconfigured, "400 Bad Request"},
		"an error with a 200": {func(w http.ResponseWriter, said string) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"`+url.QueryEscape(said)+`"}`)
		}, EndpointMisconfigured, "200 OK"},
		"much": {func(w http.ResponseWriter, said string) {
			http.Error(w, strings.Repeat(said, 20_000), http.StatusForbidden)
		}, EndpointMisconfigured, "403 Forbidden"},
		"it is down": {func(w http.ResponseWriter, said string) {
			http.Error(w, said, http.StatusServiceUnavailable)
		}, EndpointDown, "503 Service Unavailable"},
		"it is busy": {func(w http.ResponseWriter, said string) {
			http.Error(w, said, http.StatusTooManyRequests)
		}, EndpointDown, "429 Too Many Requests"},
	} {
		t.Run(name, func(t *testing.T) {
			login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				user, password, _ := r.BasicAuth()
				c.answer(w, string(body)+user+password+r.URL.String())
			}))
			defer login.Close()
			address := login.Listener.Addr().String()
			if c.answer == nil {
				address = servers.HoldPort(t)
			}
			j, _, o := backlog(t)
			o.Endpoint.MaxBlock = time.Minute
			o.Endpoint.HTTP.OAuth2 = &promconfig.OAuth2{
				ClientID: "id", ClientSecret: "geheim", EndpointParams: map[string]string{"p": "geheim"},
				TokenURL: "http://user:geheim@" + address + "/token?key=geheim",
			}
			s, path := isolating(t, o)
			j.appendDue(3)
			now := epoch
			for range 6 {
				now = now.Add(s.step(now))
			}
			st := s.Status()
			if st.State != c.want || !strings.Contains(st.Words, c.words) || (c.want == EndpointMisconfigured) != strings.Contains(st.Do, "client_secret,") {
				t.Errorf("status is %+v, want %s with %q", st, c.want, c.words)
			}
			seen := []string{s.log.String(), st.Words}
			for _, l := range lettersOf(t, path) {
				seen = append(seen, l.Words)
			}
			for _, text := range seen {
				if strings.Contains(text, "geheim") || len(text) > 2<<10 {
					t.Errorf("%d bytes, and perhaps a secret: %.300q", len(text), text)
				}
			}
		})
	}
}
