package collect

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// What a page says of a family adds to what earlier ones have said.
func TestMetadataLikePrometheus(t *testing.T) {
	away := slices.Repeat([]page{textPage("b 1\n")}, 11)
	described := textPage("# HELP a One.\n# TYPE a gauge\na 1\n")
	compareScrapes(t, map[string]sideBySide{
		"left out":                  {pages: []page{described, textPage("# TYPE a gauge\na 2\n"), textPage("a 3\n"), textPage("# HELP a Two.\na 3\n")}},
		"a unit left out":           {pages: []page{om("# TYPE a_s gauge\n# UNIT a_s s\na_s 1\n"), om("# TYPE a_s gauge\na_s 1\n")}},
		"a help that is empty":      {pages: []page{described, textPage("# HELP a \na 2\n")}},
		"gone and back":             {pages: []page{described, textPage("b 1\n"), textPage("# TYPE a gauge\na 2\n")}},
		"gone and back at last":     {pages: slices.Concat([]page{described}, away[:10], []page{textPage("# TYPE a gauge\na 2\n")})},
		"gone for too long":         {pages: slices.Concat([]page{described}, away, []page{textPage("# TYPE a gauge\na 2\n")})},
		"in two parts":              {pages: slices.Repeat([]page{textPage("# HELP a A.\na 1\n# TYPE a counter\na{x=\"1\"} 1\n")}, 2)},
		"two types of one name":     {pages: slices.Repeat([]page{textPage("# TYPE a counter\na 1\n# TYPE a gauge\na{x=\"1\"} 1\n")}, 2)},
		"before there is a series":  {pages: []page{textPage("# TYPE a counter\n# HELP a A.\n"), textPage("a 1\n"), textPage("# HELP a A.\na 1\n")}},
		"of a page that fails":      {pages: []page{textPage("# HELP a A.\na one\n"), textPage("# TYPE a gauge\na 1\n")}},
		"an info of another's name": {pages: []page{om("# HELP c_info C.\n# TYPE c_info info\nc_info_info 1\n"), om("# HELP c_info C.\n# TYPE c_info info\nc_info 1\n")}},
	})
}

// A family that is described in two parts is known as it is in the end: its
// lines need not be resolved anew.
func TestFamilyInTwoPartsChangesNothing(t *testing.T) {
	r := newScrapeRig(t, textPage("# HELP a A.\na 1\n# TYPE a counter\na{x=\"1\"} 1\n"))
	var version uint64
	for i := range 4 {
		r.stepAt(t0.Add(time.Duration(i) * time.Second))
		f := r.exposition.lines.families["a"]
		if i > 0 && f.version != version {
			t.Errorf("page %d changes what is known of the family", i+1)
		}
		version = f.version
	}
}

// Pages that fail and have other families each time leave no more behind than
// good ones do.
func TestFamiliesOfFailedPagesAreForgotten(t *testing.T) {
	x := newExposition("db", newTarget("pg", "h:1", scrapedSource().Labels), scrapedSource().Scrape, &values{log: openLog(t)})
	for i := range 30 {
		tick := t0.Add(time.Duration(i) * time.Second)
		x.values.begin(tick)
		x.begin()
		body := ""
		for n := range 200 {
			body += fmt.Sprintf("# TYPE f%d_%d gauge\n", i, n)
		}
		p := textPage(body + "f 1\nbroken one\n")
		if x.parse([]byte(p.body), p.kind, tick) == nil {
			t.Fatal("the page did not fail")
		}
		x.values.abandon()
		x.end(false)
	}
	if n := len(x.lines.families); n > 11*200 {
		t.Errorf("%d families are kept", n)
	}
}
