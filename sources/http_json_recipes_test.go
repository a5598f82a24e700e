package sources_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// recipes are the sources of every whole configuration in docs/http_json.md.
func recipes(t *testing.T) []config.Source {
	t.Helper()
	text, err := os.ReadFile("../docs/http_json.md")
	if err != nil {
		t.Fatal(err)
	}
	// The files of logins are read when a configuration is.
	login := tempFile(t, []byte("login"))
	text = regexp.MustCompile(`/etc/secrets/\w+`).ReplaceAll(text, []byte(login))
	var all []config.Source
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllSubmatch(text, -1) {
		c, err := config.Load(tempFile(t, block[1]), config.Options{})
		if err != nil {
			t.Fatalf("%v in\n%s", err, block[1])
		}
		all = append(all, c.Sources...)
	}
	return all
}

// TestRecipes runs what docs/http_json.md shows against answers as the servers give them: those
// of a query lie in a .json file, and the request it makes and its rows in the
// .rows file beside it.
func TestRecipes(t *testing.T) {
	const folder = "testdata/recipes"
	unused := map[string]bool{}
	answers, err := filepath.Glob(folder + "/*/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range answers {
		unused[file] = true
	}
	for _, s := range recipes(t) {
		for _, q := range s.Queries {
			t.Run(s.Name+"/"+q.Name, func(t *testing.T) {
				if err := sources.CheckStatement(s, q); err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(folder, s.Name, q.Name)
				delete(unused, file+".json")
				want, err := os.ReadFile(file + ".rows")
				if err != nil {
					t.Error(err)
				}
				got := strings.Join(recipeLines(t, s, q, file+".json"), "\n") + "\n"
				if diff := cmp.Diff(string(want), got); diff != "" {
					t.Errorf("%s in\n%s", diff, got)
				}
			})
		}
	}
	for file := range unused {
		t.Errorf("no recipe has the answer %s", file)
	}
}

// recipeLines returns the request that q makes of a server that answers with a
// file, and the rows that come of it.
func recipeLines(t *testing.T, s config.Source, q config.Query, file string) []string {
	t.Helper()
	answer, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var request string
	server := served(t, func(r *http.Request) string {
		body, _ := io.ReadAll(r.Body)
		request = strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, body))
		return string(answer)
	})
	if s.URL, err = url.Parse(server.URL + s.URL.RequestURI()); err != nil {
		t.Fatal(err)
	}
	q.Timeout = time.Minute
	rows, err := lines(t.Context(), open(t, s), q)
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{request}, rows...)
}
