package sources

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
)

func parseURL(t testing.TB, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestJSONRequests(t *testing.T) {
	accept := http.Header{"Accept": {"application/json"}}
	post := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}}
	for name, test := range map[string]struct {
		base, text string
		want       httpRequest
		url        string
	}{
		"nothing but a method": {"http://es:9200/a?b=c", "GET", httpRequest{method: "GET", header: accept}, "http://es:9200/a?b=c"},
		"a path":               {"http://es:9200/a/?b=c", "get  _cat/indices?format=json&bytes=b#x \n", httpRequest{method: "GET", header: accept}, "http://es:9200/a/_cat/indices?format=json&bytes=b"},
		"an absolute path":     {"http://es:9200/a/b", "GET /c", httpRequest{method: "GET", header: accept}, "http://es:9200/c"},
		"a tab":                {"http://es:9200/a/b", "GET\t/c", httpRequest{method: "GET", header: accept}, "http://es:9200/c"},
		"keys that are no login": {"http://es/", "GET\nIdempotency-Key: a\nX-Partition-Key: b\nX-Bypass: c",
			httpRequest{method: "GET", header: http.Header{"Accept": {"application/json"}, "Idempotency-Key": {"a"}, "X-Partition-Key": {"b"}, "X-Bypass": {"c"}}}, "http://es/"},
		"a query":         {"http://es:9200/a", "GET ?q=%20", httpRequest{method: "GET", header: accept}, "http://es:9200/a?q=%20"},
		"the same server": {"https://es/a", "GET https://ES:443/b", httpRequest{method: "GET", header: accept}, "https://ES:443/b"},
		"up":              {"http://es/a/b/c", "GET ../../../d", httpRequest{method: "GET", header: accept}, "http://es/d"},
		"headers":         {"http://es/", "\nGET\nAccept: text/json\nx-a: 1\nX-A:2\r\n", httpRequest{method: "GET", header: http.Header{"Accept": {"text/json"}, "X-A": {"1", "2"}}}, "http://es/"},
		"a body": {"http://es/", "POST _sql\n\n{\n  \"query\": \"SELECT 1\"\n\n}\n",
			httpRequest{method: "POST", header: post, body: "{\n  \"query\": \"SELECT 1\"\n\n}\n"}, "http://es/_sql"},
		"lines of Windows": {"http://es/", "POST _msearch\r\nContent-Type: application/x-ndjson\r\n\r\n{}\r\n\r\n",
			httpRequest{method: "POST", header: http.Header{"Accept": {"application/json"}, "Content-Type": {"application/x-ndjson"}}, body: "{}\r\n\r\n"}, "http://es/_msearch"},
		"POST without a body": {"http://es/", "POST /x", httpRequest{method: "POST", header: post}, "http://es/x"},
		"HEAD":                {"http://es/", "HEAD /x", httpRequest{method: "HEAD", header: http.Header{"Accept": {"application/json"}, "Accept-Encoding": {"identity"}}}, "http://es/x"},
	} {
		t.Run(name, func(t *testing.T) {
			s := config.Source{Type: config.TypeHTTPJSON, URL: parseURL(t, test.base), AllowPost: true}
			got, err := parseJSONRequest(s, config.Query{SQL: test.text})
			if err != nil {
				t.Fatal(err)
			}
			if got.url.String() != test.url {
				t.Errorf("asks %s, want %s", got.url, test.url)
			}
			got.url = nil
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(httpRequest{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestJSONRequestsRefused(t *testing.T) {
	const login = "http_headers of the source"
	for text, want := range map[string]string{
		"":                                       "no request found; write one that begins with GET or HEAD",
		"SELECT 1":                               "request begins with SELECT, which is not sent; write one that begins with GET or HEAD",
		"DELETE /kept":                           "begins with DELETE",
		"PUT /kept":                              "begins with PUT",
		"PATCH /kept":                            "begins with PATCH",
		"OPTIONS *":                              "begins with OPTIONS",
		"CONNECT es:9200":                        "begins with CONNECT",
		"POST /_sql\n\n{}":                       "set allow_post of the source",
		"GETX /":                                 "begins with GETX",
		"/esc":                                   "request begins with no method; write one that begins with GET or HEAD",
		"http://u:verysecret@es/":                "request begins with no method",
		"GET/a":                                  "request begins with no method",
		"GET /a HTTP/1.1":                        "write %20 for it",
		"GET //other/a":                          "another host or scheme",
		"GET http://other/a":                     "another host or scheme",
		"GET http://es:81/a":                     "another host or scheme",
		"GET https://es:80/a":                    "another host or scheme",
		"GET https://es/a":                       "another host or scheme",
		"GET file:///etc/passwd":                 "another host or scheme",
		"GET localhost:9200/a":                   "another host or scheme",
		"GET mailto:a@b":                         "another host or scheme",
		"GET http://u:verysecret@es/a":           "write basic_auth",
		"GET //u:verysecret@es/a":                "write basic_auth",
		"GET http://es/%zz":                      "cannot be read",
		"GET http://u:verysecret@[::1/":          "cannot be read",
		"GET /a\x00":                             "cannot be read",
		"GET 1:2":                                "cannot be read",
		"GET /a\n\n{}":                           "a GET has no body",
		"HEAD /a\n\nx":                           "a HEAD has no body",
		"GET /a\nGET /b":                         "no header",
		"GET /a\nX A: b":                         "no header",
		"GET /a\n: b":                            "no header",
		"GET /a\nX-A: b\x01c":                    "control character",
		"GET /a\nAuthorization: verysecret":      login,
		"GET /a\nproxy-authorization: x":         login,
		"GET /a\nCookie: x":                      login,
		"GET /a\nX-ClickHouse-Key: x":            login,
		"GET /a\nX-Api-Key: x":                   login,
		"GET /a\nApikey: x":                      login,
		"GET /a\nX-Auth-Token: x":                login,
		"GET /a\nX-Consul-Token: x":              login,
		"GET /a\nX-Pass: x":                      login,
		"GET /a\nX_Passwd: x":                    login,
		"GET /a\nX-Secret-Key: x":                login,
		"GET /a\nKey: x":                         login,
		"GET /a\nX-Session-ID: x":                login,
		"GET /a\nX-Original-URL: /b":             "what is asked for stands behind the method",
		"GET /a\nX-Rewrite-URL: /b":              "what is asked for stands behind the method",
		"GET /a\nForwarded: for=x":               "the agent asks for nobody else",
		"GET /a\nX-Forwarded-For: x":             "the agent asks for nobody else",
		"GET /a\nHost: x":                        "header Host is not a query's to write",
		"GET /a\nContent-Length: 5":              "follows from the body",
		"GET /a\nTransfer-Encoding: x":           "follows from the body",
		"GET /a\nConnection: close":              "connections are the agent's",
		"GET /a\nTE: x":                          "connections are the agent's",
		"GET /a\nAccept-Encoding: br":            "reads gzip",
		"GET /a\nUser-Agent: me":                 "says who asks",
		"GET /a\nX-HTTP-Method-Override: DELETE": "the method is the first word",
		"HEAD":                                   "has no JSON; delete json, its columns are status, content_length, last_modified, seconds",
	} {
		s := config.Source{Type: config.TypeHTTPJSON, URL: parseURL(t, "http://es/")}
		err := CheckStatement(s, config.Query{SQL: text, JSON: jsonPaths("", "v", "v")})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// FuzzJSONRequest: whatever the text is, a request goes to the source's server,
// by a method that is allowed, and carries no login.
func FuzzJSONRequest(f *testing.F) {
	for _, seed := range []string{"GET", "POST a\nB: c\r\n\r\n{}", "HEAD //es:9200/..?a#b", "GET http:/x", "GET \\\\other/a", "GET /a\nX: y\n\nz"} {
		f.Add(seed)
	}
	base := parseURL(f, "http://u:verysecret@es:9200/a/b?c=d")
	base.User = nil
	f.Fuzz(func(t *testing.T, text string) {
		for _, post := range []bool{false, true} {
			r, err := parseJSONRequest(config.Source{URL: base, AllowPost: post}, config.Query{SQL: text})
			if err != nil {
				continue
			}
			if r.url.Scheme != "http" || !strings.EqualFold(r.url.Host, "es:9200") || r.url.User != nil || r.url.Opaque != "" {
				t.Errorf("asks %s", r.url)
			}
			if r.method != "GET" && r.method != "HEAD" && (r.method != "POST" || !post) || r.method != "POST" && r.body != "" {
				t.Errorf("sends %s %q", r.method, r.body)
			}
			if _, err := http.NewRequest(r.method, r.url.String(), nil); err != nil {
				t.Error(err)
			}
			for name := range r.header {
				if name == "Authorization" || name == "Cookie" || name == "Host" || !validHeaderName(name) {
					t.Errorf("sends %s", name)
				}
			}
		}
	})
}
