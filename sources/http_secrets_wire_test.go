package sources_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	promconfig "github.com/prometheus/common/config"

	"sql2metrics/sources"
)

// echoing serves each connection with what reply makes of its request.
func echoing(t *testing.T, reply func(*http.Request) string) string {
	t.Helper()
	l := fakeServer(t, func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, reply(r))
		}
	})
	return "http://" + l.Addr().String()
}

// page is a whole answer.
func page(status int, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(body), body)
}

// TestHTTPSecrets: whatever a server repeats of a request, and wherever, no
// error tells the login.
func TestHTTPSecrets(t *testing.T) {
	basic := func(password string) promconfig.HTTPClientConfig {
		return promconfig.HTTPClientConfig{FollowRedirects: true, BasicAuth: &promconfig.BasicAuth{Username: "mon", Password: promconfig.Secret(password)}}
	}
	bearer := promconfig.HTTPClientConfig{FollowRedirects: true, Authorization: &promconfig.Authorization{Type: "Bearer", Credentials: "Token-Token123"}}
	header := promconfig.HTTPClientConfig{HTTPHeaders: &promconfig.Headers{Headers: map[string]promconfig.Header{"x-k": {Secrets: []promconfig.Secret{"one  two three"}}}}}
	says := func(text string) func(*http.Request) string {
		return func(*http.Request) string { return text }
	}
	inJSON := func(text string) string {
		b, _ := json.Marshal(map[string]string{"sent": text})
		return string(b)
	}
	const odd = `hun"t<er2/&'é𝄞`
	for name, test := range map[string]struct {
		http  promconfig.HTTPClientConfig
		query string // of the url
		reply func(*http.Request) string
		leaks []string
	}{
		"an answer that is none": {basic("hunter2secret"), "", func(r *http.Request) string { return r.Header.Get("Authorization") + "\r\n\r\n" },
			[]string{base64.StdEncoding.EncodeToString([]byte("mon:hunter2secret"))}},
		"a header that is none": {basic("hunter2secret"), "", func(r *http.Request) string {
			return "HTTP/1.1 200 OK\r\nAuthorization " + r.Header.Get("Authorization") + "\r\n\r\n"
		}, []string{base64.StdEncoding.EncodeToString([]byte("mon:hunter2secret"))}},
		"a transfer encoding": {bearer, "", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: Token-Token123\r\n\r\nx"), []string{"Token123"}},
		"a length":            {bearer, "", says("HTTP/1.1 200 OK\r\nContent-Length: Token-Token123\r\n\r\nx"), []string{"Token123"}},
		"a kind of text":      {bearer, "", says("HTTP/1.1 200 OK\r\nContent-Type: Token-Token123\r\n\r\nx"), []string{"Token123"}},
		"a redirect":          {bearer, "", says("HTTP/1.1 302 X\r\nLocation: http://token-token123.example/\r\n\r\n"), []string{"token123"}},
		"a member's name":     {bearer, "", says(page(200, `{"Token-Token123":1}`)), []string{"Token123"}},
		"no JSON":             {bearer, "", says(page(200, `Token-Token123`)), []string{"Token123"}},
		"in small letters":    {bearer, "", says(page(500, `token-token123`)), []string{"token123"}},
		"two blanks":          {basic("hun  ter2secret"), "", says(page(500, "you sent hun  ter2secret")), []string{"ter2secret"}},
		"in JSON":             {basic(odd), "", says(page(500, inJSON(odd))), []string{"er2"}},
		"in plain JSON":       {basic(odd), "", says(page(500, `{"sent":"hun\"t<er2\/&'é𝄞"}`)), []string{"er2"}},
		"in a URL":            {basic(odd), "", says(page(500, url.QueryEscape(odd)+" "+strings.ToLower(url.PathEscape(odd)))), []string{"er2"}},
		"in HTML":             {basic(odd), "", says(page(500, html.EscapeString(odd))), []string{"er2"}},
		"in HTML with names":  {basic(odd), "", says(page(500, `hun&quot;t&lt;er2&#x2F;&amp;&#x27;&#xe9;𝄞`)), []string{"er2"}},
		"http_headers":        {header, "", says(page(500, "one  two three, or two, or three")), []string{"three"}},
		"cut off":             {bearer, "", says(page(500, "you sent Token-Tok")), []string{"Token-T"}},
		"far behind":          {bearer, "", says(page(500, strings.Repeat(" ", 4<<10-20)+"you sent Token-Token123")), []string{"Token-T"}},
		"over the length":     {bearer, "", says(page(500, strings.Repeat("x", 190)+"Token-Token123")), []string{"Toke"}},
		"the url":             {bearer, "token=letmein&a=b%20c12", func(r *http.Request) string { return page(404, "no "+r.RequestURI+" here") }, []string{"letmein", "a=b"}},
		"the url in JSON":     {bearer, "token=letmein&a=b%20c12", func(r *http.Request) string { return page(404, inJSON(r.RequestURI)) }, []string{"letmein", "c12"}},
		"the url's values":    {bearer, "token=letmein&a=b%20c12", says(page(404, "letmein b c12")), []string{"letmein", "b c12"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := apiAt(t, echoing(t, test.reply)+"/x?"+test.query)
			c.HTTP = test.http
			_, err := lines(t.Context(), open(t, c), ask("GET", "hits", "v"))
			if err == nil {
				t.Fatal("no error")
			}
			e := scraped(t, c.URL.String())
			e.HTTP = test.http
			_, _, scrapeErr := openScraped(t, e).Scrape(t.Context())
			for _, leak := range test.leaks {
				if strings.Contains(err.Error(), leak) || scrapeErr != nil && strings.Contains(scrapeErr.Error(), leak) {
					t.Errorf("%s stands in %q or in %q", leak, err, scrapeErr)
				}
			}
			if !strings.Contains(err.Error(), "<secret>") {
				t.Errorf("nothing is hidden in %q", err)
			}
		})
	}
}

// TestHTTPSecretsOfOthers: what a proxy and an endpoint of OAuth2 repeat is
// hidden too.
func TestHTTPSecretsOfOthers(t *testing.T) {
	proxy := echoing(t, func(r *http.Request) string {
		return "HTTP/1.1 407 \x1b[31m" + r.Header.Get("Proxy-Authorization") + "\r\n\r\n"
	})
	c := scraped(t, "https://target.invalid/")
	c.HTTP.ProxyURL.URL, _ = url.Parse(strings.Replace(proxy, "http://", "http://mon:"+secret+"@", 1))
	_, _, err := openScraped(t, c).Scrape(t.Context())
	if err == nil || !strings.Contains(err.Error(), "<secret>") || strings.ContainsAny(err.Error(), "\x1b") {
		t.Errorf("the proxy says %q", err)
	}

	endpoint := echoing(t, func(r *http.Request) string {
		return "no:" + r.Header.Get("Authorization") + r.FormValue("client_secret") + "\r\n\r\n"
	})
	for name, o := range map[string]promconfig.OAuth2{
		"in the configuration": {ClientID: "mon", ClientSecret: secret},
		"in a file":            {ClientID: "mon", ClientSecretFile: tempFile(t, []byte(secret))},
	} {
		c := scraped(t, "http://target.invalid/")
		o.TokenURL = endpoint
		c.HTTP.OAuth2 = &o
		_, _, err := openScraped(t, c).Scrape(t.Context())
		if err == nil || !strings.Contains(err.Error(), `"no:<secret>"`) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHTTPRefusedRedirects: where a refused redirect leads to is told in one
// line that a terminal may show.
func TestHTTPRefusedRedirects(t *testing.T) {
	for to, want := range map[string]string{
		"/a%0aFAKE%20LINE%1b[31m":          "ask where it leads to, /a%0aFAKE%20LINE%1b[31m",
		"//evil%1b.example/":               "correct the url",
		"//evil%c2%9b.example/":            "http://evil%C2%9B.example/: if that is right",
		"//" + strings.Repeat("e", 10_000): "eee…: if that is right",
		"/" + strings.Repeat("e", 10_000):  "eee…",
	} {
		c := apiAt(t, echoing(t, func(*http.Request) string { return "HTTP/1.1 302 X\r\nLocation: " + to + "\r\n\r\n" }))
		c.AllowPost = true
		var s sources.Source = open(t, c)
		err := s.Query(t.Context(), ask("POST\n\n{}", "", "v"), ignore)
		if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\x1b\u009b") || len(err.Error()) > 500 {
			t.Errorf("%.50s: %.300q, want %s", to, fmt.Sprint(err), want)
		}
	}
}

// TestHTTPRedirectsNotFollowed: of a redirect that the operator does not want
// to follow the status is told.
func TestHTTPRedirectsNotFollowed(t *testing.T) {
	c := apiAt(t, echoing(t, func(*http.Request) string { return "HTTP/1.1 308 X\r\nLocation: /x\r\n\r\n" }))
	c.HTTP.FollowRedirects = false
	err := open(t, c).Query(t.Context(), ask("GET", "", "v"), ignore)
	if err == nil || !strings.Contains(err.Error(), "308 Permanent Redirect: set follow_redirects, or write as the url where it leads to") {
		t.Errorf("got %v", err)
	}
}
