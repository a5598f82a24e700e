package collect

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestLongLinesOfBadPages scrapes pages that have new, long lines each time and
// fail at their ends: what is known of them does not grow with their number,
// and what the good page before had is known for as long as it is not in the
// way.
func TestLongLinesOfBadPages(t *testing.T) {
	const long = 64 << 10
	pages := []page{textPage("good 1\n")}
	for n := range 40 {
		var b strings.Builder
		for i := range 10 {
			fmt.Fprintf(&b, "a{page=\"%d\",n=\"%d\",x=\"%s\"} 1\n", n, i, strings.Repeat("y", long))
		}
		pages = append(pages, textPage(b.String()+"broken one\n"))
	}
	pages = append(pages, pages[0], pages[0])
	r := newScrapeRig(t, pages...)
	ls := &r.exposition.lines
	for n := range pages {
		at := t0.Add(time.Duration(n) * time.Second)
		r.now = at
		if err := r.Step(t.Context(), at); (err == nil) != (n == 0 || n > 40) {
			t.Fatalf("page %d: %v", n, err)
		}
		if n == 1 && ls.known["good"] == nil {
			t.Error("the first bad page has taken the good line away")
		}
		bytes := 0
		for raw := range ls.known {
			bytes += len(raw)
		}
		if bytes != ls.bytes || bytes > badBytes+11*long {
			t.Fatalf("page %d: %d bytes of lines are known, %d counted", n, bytes, ls.bytes)
		}
	}
	if n := r.log.Stats().Series; n > 20 {
		t.Errorf("the log has %d handles after a good page", n)
	}
}
