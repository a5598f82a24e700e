package agent

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

// scraper gets a page over and over.
type scraper struct {
	page    string
	answers []string
	err     error
	enough  chan struct{} // closed to end it
	done    chan struct{} // closed when it has
}

func (s *scraper) run() {
	defer close(s.done)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for {
		select {
		case <-s.enough:
			return
		default:
		}
		resp, err := (&http.Client{Transport: transport}).Get(s.page + "/metrics")
		if err != nil {
			s.err = err
			return
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			s.err = fmt.Errorf("a scrape answers %d: %s: %w", resp.StatusCode, body, err)
			return
		}
		s.answers = append(s.answers, string(body))
	}
}

func post(t testing.TB, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
