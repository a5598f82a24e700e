package collect

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recordings are the answers in testdata/expositions, two of each kind, by
// server and format.
func recordings(t *testing.T) map[string][]page {
	t.Helper()
	first, err := filepath.Glob("testdata/expositions/*-1.*")
	if err != nil || len(first) == 0 {
		t.Fatalf("%d recordings: %v", len(first), err)
	}
	all := map[string][]page{}
	for _, file := range first {
		name := strings.Replace(filepath.Base(file), "-1.", " ", 1)
		all[name] = []page{recording(t, file), recording(t, strings.Replace(file, "-1.", "-2.", 1))}
	}
	return all
}

func recording(t *testing.T, file string) page {
	t.Helper()
	answer, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return page{kind: res.Header.Get("Content-Type"), body: string(text)}
}

// TestRecordedLikePrometheus lets both read what real servers answered: the
// first page, the second, and the first again, so that what went comes back.
func TestRecordedLikePrometheus(t *testing.T) {
	cases := map[string]sideBySide{}
	for name, pages := range recordings(t) {
		if strings.HasPrefix(name, "client_golang") || name == "sql2metrics protobuf" {
			continue // they have native histograms and created lines
		}
		pages = append(pages, pages[0])
		cases[name] = sideBySide{pages: pages}
	}
	compareScrapes(t, cases)
}
