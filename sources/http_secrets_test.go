package sources

import (
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	promconfig "github.com/prometheus/common/config"
)

// FuzzSpellings: a word is found however it is escaped.
func FuzzSpellings(f *testing.F) {
	for _, word := range []string{"hunter2", `a"b\c/d`, "a  b\tc", "<&'\">", "é𝄞\u2028", "\x00\xff%41", "+a b+", `\\\\`} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		word = strings.TrimSpace(word)
		if word == "" {
			return
		}
		spelled, err := spellings(word)
		if err != nil {
			t.Fatal(err)
		}
		bare := func(quoted string) string { return quoted[1 : len(quoted)-1] }
		inJSON, _ := json.Marshal(word)
		for name, text := range map[string]string{
			"as it is":      word,
			"in JSON":       bare(string(inJSON)),
			"quoted":        bare(strconv.Quote(word)),
			"quoted, ASCII": bare(strconv.QuoteToASCII(word)),
			"in a query":    url.QueryEscape(word),
			"in a path":     strings.ToLower(url.PathEscape(word)),
			"in HTML":       html.EscapeString(word),
			"quoted JSON":   bare(strconv.Quote(bare(string(inJSON)))),
			"in one line":   strings.Join(strings.Fields(word), " "),
			"within a text": "x" + word + "y",
			"in capitals":   strings.ToUpper(strings.ToLower(word)),
		} {
			if !spelled.MatchString(text) {
				t.Errorf("%s: %q is not found in %q by %s", name, word, text, spelled)
			}
		}
	})
}

func TestHide(t *testing.T) {
	const pass = "hunter2"
	sent := func(name, value string) *httpSecrets {
		return &httpSecrets{sent: []http.Header{{name: {value}}}}
	}
	asked := func(source, asked string) *httpSecrets {
		return &httpSecrets{config: new(promconfig.HTTPClientConfig), source: parseURL(t, source), asked: parseURL(t, asked)}
	}
	var long string
	for i := range 1000 {
		long += "Sécret." + strconv.Itoa(i*i)
	}
	for name, test := range map[string]struct {
		secrets    *httpSecrets
		text, want string
	}{
		"nothing":                    {new(httpSecrets), "hunter2", "hunter2"},
		"the scheme":                 {sent("Authorization", "Bearer hunter2"), "a Bearer of hunter2", "a Bearer of <secret>"},
		"without a scheme":           {sent("Authorization", pass), "not hunter2", "not <secret>"},
		"other headers":              {sent("X-A", pass), "not hunter2", "not hunter2"},
		"at the end":                 {sent("Authorization", "Bearer hunter2"), "not hunt", "not <secret>"},
		"before more":                {sent("Authorization", "Bearer hunter2"), "not hunte…", "not <secret>…"},
		"too short at the end":       {sent("Authorization", "Bearer hunter2"), "not hun…", "not hun…"},
		"too short":                  {sent("Authorization", "Bearer abc"), "abc", "abc"},
		"the longest of all":         {&httpSecrets{sent: []http.Header{{"Authorization": {"Bearer hunt", "Bearer hunter2"}}}}, "hunter2 hunt", "<secret> <secret>"},
		"long":                       {sent("Authorization", "Bearer "+long), "not " + strings.ToLower(long), "not " + strings.Repeat("<secret>", (len(long)+255)/256)},
		"the url's format":           {asked("http://a/?format=json&t=x12345", "http://a/"), "no json for x12345", "no json for <secret>"},
		"the url's token of letters": {asked("http://a/?api_token=letmein", "http://a/"), "letmein", "<secret>"},
		"the url's query":            {asked("http://a/?format=json", "http://a/"), "/?format=json", "/?<secret>"},
		"what was asked":             {asked("http://a/", "http://a/b?q=a%20b1"), "GET /b?q=a%20b1 or a b1 or q=a b1", "GET /b?<secret> or a b1 or <secret>"},
	} {
		if got := test.secrets.hide(test.text); got != test.want {
			t.Errorf("%s: %.100q, want %q", name, got, test.want)
		}
	}
}

// An error whose text is another is still the same error.
func TestCoverKeepsErrors(t *testing.T) {
	s := &httpSecrets{sent: []http.Header{{"Authorization": {"Bearer hunter2"}}}}
	plain, telling := errors.New("plain"), errors.New("hunter2")
	if s.cover(nil) != nil || s.cover(plain) != plain {
		t.Error("what tells nothing is covered")
	}
	if err := s.cover(telling); err.Error() != "<secret>" || !errors.Is(err, telling) {
		t.Errorf("got %v", err)
	}
}
