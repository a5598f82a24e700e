package collect

import (
	"fmt"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

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

// line is one spelling of a series on the page.
type line struct {
	series *scraped // nil: a _created line, which tells start of others
	start  *start   // of the metric; nil where none can be told
	round  uint64   // the last one it was read in

	// What it was learnt under. Under other metadata it may be another thing.
	family  *exposed
	version uint64
}

// scraped is a series of the target. It lives as long as a page has a line of
// it.
type scraped struct {
	series
	spellings    int
	lastTimed    timed
	lastExemplar exemplar.Exemplar
}

// timed is a sample with its own time, as it was last appended.
type timed struct {
	at   int64
	bits uint64
	set  bool
}

func (t timed) is(at int64, v float64) bool {
	return t.set && t.at == at && t.bits == math.Float64bits(v)
}

// had tells whether an exemplar was on the page before. Targets show one until
// they have a newer.
func (s *scraped) had(e exemplar.Exemplar) bool {
	return e.Equals(s.lastExemplar) || e.HasTs && s.lastExemplar.HasTs && e.Ts <= s.lastExemplar.Ts
}

// start is the start timestamp of one metric: of a counter, or of all series
// of a histogram or a summary.
type start struct {
	key   string
	users int // lines
	round uint64
	at    int64 // Unix milliseconds, in that round
}

// set takes the value of a _created line.
func (s *start) set(round uint64, seconds float64) {
	s.round, s.at = round, int64(math.Round(seconds*1000))
}

// lines is what is known of the pages of one target.
type lines struct {
	target      target
	values      *values
	openMetrics bool // the page being read

	known    map[string]*line
	series   map[*wal.Series]*scraped
	starts   map[string]*start
	families map[string]*exposed

	round        uint64
	seen         int // lines in this round
	seenFamilies int
	good         int     // lines in the last good round
	replaced     []*line // by others of the same bytes in this round
}

func newLines(t target, v *values) lines {
	return lines{
		target: t, values: v,
		known:    map[string]*line{},
		series:   map[*wal.Series]*scraped{},
		starts:   map[string]*start{},
		families: map[string]*exposed{},
	}
}

func (ls *lines) begin() {
	ls.round, ls.seen, ls.seenFamilies = ls.values.number, 0, 0
}

// find returns the line of those bytes under that family, or nil; known tells
// whether there is one at all.
func (ls *lines) find(raw []byte, f *exposed) (l *line, known bool) {
	l = ls.known[string(raw)]
	if l == nil {
		return nil, false
	}
	if l.family != f || l.version != f.version {
		return nil, true
	}
	if l.round != ls.round {
		l.round = ls.round
		ls.seen++
	}
	return l, true
}

// learn makes the line with those bytes and labels; nil if it is of a series
// that would be one too many for the agent.
func (ls *lines) learn(raw []byte, lset labels.Labels, f *exposed) (*line, error) {
	name := lset.Get(model.MetricNameLabel)
	if name == "" {
		return nil, fmt.Errorf("%s has no metric name", raw)
	}
	l := &line{round: ls.round, family: f, version: f.version}
	starts := ls.openMetrics && f.starts()
	if starts && name == f.base()+"_created" {
		l.start = ls.start(f, lset)
	} else {
		inLog, onPage := ls.target.override(lset)
		if !inLog.IsValid(model.UTF8Validation) {
			return nil, fmt.Errorf("%s is not UTF-8", raw)
		}
		if label, twice := inLog.HasDuplicateLabelNames(); twice {
			return nil, fmt.Errorf("%s has the label %s twice", raw, label)
		}
		var meta wal.Metadata
		if f.has(name) {
			meta = f.meta
		}
		if l.series = ls.take(inLog, onPage, family{name, meta}); l.series == nil {
			return nil, nil
		}
		if starts && f.has(name) {
			l.start = ls.start(f, lset)
		}
	}
	old := ls.known[string(raw)]
	if old != nil {
		ls.replaced = append(ls.replaced, old)
	}
	if old == nil || old.round != ls.round {
		ls.seen++
	}
	ls.known[string(raw)] = l
	return l, nil
}

// take returns the series with those labels, which may have another spelling
// already; nil if it is new and one too many.
func (ls *lines) take(inLog, onPage labels.Labels, f family) *scraped {
	handle := ls.values.log.Series(inLog, f.meta)
	s := ls.series[handle]
	if s == nil && !ls.values.limit.take(inLog) {
		ls.values.log.Release(handle)
		return nil
	}
	if s == nil {
		s = &scraped{series: series{family: &f, handle: handle, page: onPage}}
		ls.series[handle] = s
	} else {
		ls.values.log.Release(handle)
		if *s.family != f {
			ls.values.describe(&s.series, &f)
		}
	}
	s.spellings++
	return s
}

// start returns the start timestamp of the metric that a line belongs to: its
// name and the labels that all its lines have.
func (ls *lines) start(f *exposed, lset labels.Labels) *start {
	lb := labels.NewBuilder(lset).Del(model.MetricNameLabel)
	switch f.meta.Type {
	case model.MetricTypeHistogram:
		lb.Del(model.BucketLabel)
	case model.MetricTypeSummary:
		lb.Del(model.QuantileLabel)
	}
	key := f.base() + "\xff" + string(lb.Labels().Bytes(nil))
	s := ls.starts[key]
	if s == nil {
		s = &start{key: key}
		ls.starts[key] = s
	}
	s.users++
	return s
}

// end forgets what was on no line of a good page. As in Prometheus a bad one
// takes nothing away, unless one bad page after the other has had new lines.
func (ls *lines) end(good bool) {
	if good {
		ls.good = ls.seen
	}
	for _, l := range ls.replaced {
		ls.drop(l)
	}
	clear(ls.replaced)
	ls.replaced = ls.replaced[:0]
	if !good && len(ls.known) <= 2*ls.good+1000 {
		return
	}
	if ls.seen < len(ls.known) {
		for raw, l := range ls.known {
			if l.round != ls.round {
				delete(ls.known, raw)
				ls.drop(l)
			}
		}
	}
	if ls.seenFamilies < len(ls.families) {
		for name, f := range ls.families {
			if f.round != ls.round {
				delete(ls.families, name)
			}
		}
	}
}

// drop gives back what a line held.
func (ls *lines) drop(l *line) {
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
