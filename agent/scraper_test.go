package agent

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// scraper gets a page over and over, and holds that all adds up meanwhile.
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
		body, err := s.get(transport, "/metrics")
		if err != nil {
			s.err = err
			return
		}
		s.answers = append(s.answers, body)
		if body, err = s.get(transport, "/debug/completeness?format=json"); err == nil && !strings.Contains(body, `"adds_up": true`) {
			err = fmt.Errorf("it does not add up: %s", body)
		}
		if err != nil {
			s.err = err
			return
		}
	}
}

func (s *scraper) get(transport http.RoundTripper, path string) (string, error) {
	resp, err := (&http.Client{Transport: transport}).Get(s.page + path)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("a scrape answers %d: %s: %w", resp.StatusCode, body, err)
	}
	return string(body), nil
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
