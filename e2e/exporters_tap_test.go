package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"sync"
	"testing"
	"time"
)

// tap is a proxy that keeps the pages which the agent gets.
type tap struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string][]tapped // by the address of the exporter
}

// tapped is one page.
type tapped struct {
	at          time.Time
	contentType string
	body        []byte
}

func startTap(t *testing.T) *tap {
	t.Helper()
	p := &tap{pages: map[string][]tapped{}}
	p.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:        func(*httputil.ProxyRequest) {}, // the request has the whole URL
		ModifyResponse: p.keep,
		// As when the exporter dies: the connection ends without an answer.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	t.Cleanup(p.Close)
	return p
}

// keep keeps a page, of which nobody has anything yet.
func (p *tap) keep(res *http.Response) error {
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	if res.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return err
		}
		if body, err = io.ReadAll(z); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	from := res.Request.URL.Host
	p.pages[from] = append(p.pages[from], tapped{time.Now(), res.Header.Get("Content-Type"), body})
	return nil
}

// since returns the pages that an exporter gave at a scrape's time and later,
// the one of the scrape among them: it comes before its samples.
func (p *tap) since(from string, scrape int64) []tapped {
	p.mu.Lock()
	defer p.mu.Unlock()
	pages := p.pages[from]
	for i, page := range pages {
		if page.at.UnixMilli() >= scrape {
			return pages[i:len(pages):len(pages)]
		}
	}
	return nil
}
