package collect

import (
	"fmt"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// reading is one sample as the parser has it.
type reading struct {
	raw    []byte // its series, as the page spells it
	at     *int64 // its own time, Unix milliseconds; nil: it has none
	v      float64
	native bool
	h      *histogram.Histogram
	fh     *histogram.FloatHistogram
}

// point returns it as a value of its series.
func (r reading) point(s *series) point { return point{series: s, v: r.v, h: r.h, fh: r.fh} }

// line is one spelling of a series on the page. One of neither a series nor a
// start is of a series that metric_relabel_configs drop.
type line struct {
	raw    string
	series *scraped
	start  *start // of the metric, nil where none can be told; without a series: the line tells it
	round  uint64 // the last one it was read in
	next   *line  // came after it when it last was read; nil: none is known
	gone   bool   // it has been dropped

	// What it was learnt under. Under other circumstances it may be another
	// thing.
	spelling
	family  *exposed
	version uint64
}

// spelling tells apart the same bytes for different things: those of a page in
// protobuf, where they are names and values put together, those that the parser
// made up for a native histogram, and those behind a TYPE whose metrics tell
// their starts.
type spelling struct{ protobuf, native, starts bool }

// scraped is a series of the target. It lives as long as a page has a line of
// it. What few series have is apart from it, to keep it small.
type scraped struct {
	series
	spellings    int
	lastTimed    *timed             // nil: it has had none
	lastExemplar *exemplar.Exemplar // likewise
}

// timed is a sample with its own time, as it was last appended.
type timed struct {
	at int64
	point
}

// lines is what is known of the pages of one target.
type lines struct {
	target target
	rules  *config.Scrape
	values *values

	known    map[string]*line
	bytes    int // of the lines known, as pages spell them
	series   map[*wal.Series]*scraped
	starts   map[string]*start
	families map[string]*exposed

	// Of the page being read.
	protobuf     bool
	openMetrics  bool
	starting     bool // the last TYPE was of one whose metrics have start timestamps
	round        uint64
	scrape       uint64
	before       *line // the newest one read
	first        line  // stands before all others
	seen         int   // lines
	seenFamilies int
	replaced     []*line // by others of the same bytes
	family       *family // of the series learnt last: those of a metric come one after the other, and share it

	good      int // lines and families in the last good round
	goodBytes int // of its lines
}

// What bad pages may add to what is known, beyond as much again as the last
// good one had.
const (
	badLines = 1000
	badBytes = 4 << 20
)

func newLines(t target, rules *config.Scrape, v *values) lines {
	return lines{
		target: t, rules: rules, values: v,
		known:    map[string]*line{},
		series:   map[*wal.Series]*scraped{},
		starts:   map[string]*start{},
		families: map[string]*exposed{},
	}
}

func (ls *lines) begin() {
	ls.round, ls.seen, ls.seenFamilies = ls.values.number, 0, 0
	ls.scrape++
	ls.before, ls.starting = &ls.first, false
}

// find returns the line of those bytes, or nil, and whether the page had it
// before. Most pages have the lines of the page before in their order, so that
// comparing with the next one is all.
func (ls *lines) find(raw []byte) (l *line, again bool) {
	l = ls.before.next
	if l == nil || l.gone || l.raw != string(raw) {
		if l = ls.known[string(raw)]; l == nil {
			return nil, false
		}
		ls.before.next = l
	}
	ls.before = l
	if l.round == ls.round {
		return l, true
	}
	l.round = ls.round
	ls.seen++
	return l, false
}

// current tells whether a line is what it was learnt as.
func (ls *lines) current(l *line, f *exposed, native bool) bool {
	return l.family == f && l.version == f.version && l.spelling == ls.spelling(native)
}

func (ls *lines) spelling(native bool) spelling { return spelling{ls.protobuf, native, ls.starting} }

// candidate is a series that the page has, before it is known whether it is
// taken.
type candidate struct {
	exposed labels.Labels
	log     labels.Labels // empty: it is dropped
	page    labels.Labels
	family  family
	created bool // it is the line that tells a start timestamp
}

// resolve says what a line with those labels is of. An error fails the page.
func (ls *lines) resolve(raw []byte, lset labels.Labels, f *exposed) (c candidate, err error) {
	c.exposed = lset
	if ls.starting && strings.HasSuffix(lset.Get(model.MetricNameLabel), createdSuffix) {
		c.created = true
		return c, nil
	}
	c.log, c.page = ls.target.scraped(lset, ls.rules)
	if c.log.IsEmpty() {
		return c, nil
	}
	name := c.log.Get(model.MetricNameLabel)
	if name == "" {
		return c, fmt.Errorf("%s has no metric name: correct metric_relabel_configs, or what the target exposes", brief(raw))
	}
	if !c.log.IsValid(model.UTF8Validation) {
		return c, fmt.Errorf("%s is not UTF-8", brief(raw))
	}
	if err := overLabels(c.log, ls.rules.LabelLimits); err != nil {
		return c, &pageLimitError{err, "drop it by metric_relabel_configs, or raise the limit"}
	}
	c.family.name = name
	// Prometheus gives up the metadata of a whole family at the first series
	// that is not of it, as one that relabelling has renamed. Here the others
	// keep it.
	if f.has(name) {
		c.family.meta = f.meta
	}
	return c, nil
}

// learn makes the line of a candidate; nil if that is of a series that would be
// one too many for the agent.
func (ls *lines) learn(raw []byte, c *candidate, f *exposed, native bool) (*line, error) {
	l := &line{round: ls.round, spelling: ls.spelling(native), family: f, version: f.version}
	switch {
	case c.created:
		l.start = ls.start(strings.TrimSuffix(c.exposed.Get(model.MetricNameLabel), createdSuffix), f, c.exposed)
	case !c.log.IsEmpty():
		if label, twice := c.log.HasDuplicateLabelNames(); twice {
			return nil, fmt.Errorf("%s has the label %s twice", brief(raw), label)
		}
		if l.series = ls.take(c); l.series == nil {
			return nil, nil
		}
		if ls.openMetrics && starts(f.meta.Type) && f.has(c.exposed.Get(model.MetricNameLabel)) {
			l.start = ls.start(f.base(), f, c.exposed)
		}
	}
	if old := ls.known[string(raw)]; old != nil {
		ls.replaced = append(ls.replaced, old)
		l.raw, l.next, old.gone = old.raw, old.next, true
	} else {
		l.raw = string(raw)
		ls.bytes += len(raw)
		ls.seen++
	}
	ls.known[l.raw] = l
	ls.before.next, ls.before = l, l
	return l, nil
}

// take returns the series of a candidate, which may have another spelling
// already; nil if it is new and one too many.
func (ls *lines) take(c *candidate) *scraped {
	handle := ls.values.log.Series(c.log, c.family.meta)
	s := ls.series[handle]
	if s == nil && !ls.values.limit.take(c.log) {
		ls.values.log.Release(handle)
		return nil
	}
	if ls.family == nil || *ls.family != c.family {
		shared := c.family
		ls.family = &shared
	}
	if s == nil {
		s = &scraped{series: series{family: ls.family, handle: handle, page: c.page}}
		ls.series[handle] = s
	} else {
		ls.values.log.Release(handle)
		if *s.family != *ls.family {
			ls.values.describe(&s.series, ls.family)
		}
	}
	s.spellings++
	return s
}

// end forgets what was on no line of a good page. As in Prometheus a bad one
// takes nothing away, unless one bad page after the other has had new lines, or
// long ones.
func (ls *lines) end(good bool) {
	if good {
		ls.good = ls.seen + ls.seenFamilies
	}
	for _, l := range ls.replaced {
		ls.drop(l)
	}
	clear(ls.replaced)
	ls.replaced = ls.replaced[:0]
	if !good && len(ls.known)+len(ls.families) <= 2*ls.good+badLines && ls.bytes <= 2*ls.goodBytes+badBytes {
		return
	}
	if ls.seen < len(ls.known) {
		for raw, l := range ls.known {
			if l.round != ls.round {
				delete(ls.known, raw)
				ls.bytes -= len(raw)
				ls.drop(l)
			}
		}
	}
	if good {
		ls.goodBytes = ls.bytes
	}
	if ls.seenFamilies < len(ls.families) {
		for name, f := range ls.families {
			if ls.scrape-f.scrape > described {
				delete(ls.families, name)
			}
		}
	}
}

// drop gives back what a line held.
func (ls *lines) drop(l *line) {
	l.gone, l.next = true, nil
	if s := l.series; s != nil {
		if s.spellings--; s.spellings == 0 {
			delete(ls.series, s.handle)
			ls.values.log.Release(s.handle)
			ls.values.limit.giveBack()
		}
	}
	if s := l.start; s != nil {
		if s.users--; s.users == 0 {
			delete(ls.starts, s.key)
		}
	}
}

// close gives everything back.
func (ls *lines) close() {
	for raw, l := range ls.known {
		delete(ls.known, raw)
		ls.drop(l)
	}
}
