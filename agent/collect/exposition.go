package collect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"sql2metrics/config"
)

// maxAhead is how far in the future a sample's own time may lie, as in
// Prometheus: further ahead it would keep its series shut until then.
const maxAhead = 10 * time.Minute

// exposition turns what one target exposes into samples of the round, page
// after page, by the order of checks that Prometheus has. What it knows of a
// line it keeps by the line's bytes, so that a series that was on the page
// before costs one comparison and allocates nothing.
type exposition struct {
	source string
	rules  *config.Scrape
	values *values
	refusals
	lines     lines
	exemplars exemplars
	finest    int32 // schema of native histograms

	symbols *labels.SymbolTable
	family  *exposed  // the one the parser is in
	none    exposed   // the family of lines before all metadata
	starts  startings // of values.round
	aside   startings // of values.timed
	lset    labels.Labels
	read    bool // the page was not empty

	limited int   // samples that count for sample_limit
	over    error // what the page fails for when it has been read

	// What Prometheus reports of a scrape.
	scraped int // samples on the page
	kept    int // of those, what relabelling left
	added   int // series that were not on the page before
}

func newExposition(source string, t target, rules *config.Scrape, v *values) *exposition {
	return &exposition{
		source: source, rules: rules, values: v, lines: newLines(t, rules, v),
		finest: finestSchema(rules.MinBucketFactor), symbols: labels.NewSymbolTable(),
	}
}

// begin comes before each scrape.
func (x *exposition) begin() {
	x.lines.begin()
	x.family = &x.none
	x.starts.reset()
	x.aside.reset()
	x.read, x.limited, x.over = false, 0, nil
	x.scraped, x.kept, x.added = 0, 0, 0
}

// parse adds the samples on the page to the round. After an error the round
// is worth nothing. As in Prometheus an empty page is a good one, whatever its
// type.
func (x *exposition) parse(body []byte, contentType string, now time.Time) error {
	if len(body) == 0 {
		return nil
	}
	x.read = true
	p, err := x.parser(body, contentType)
	if err != nil {
		return err
	}
	latest := now.Add(maxAhead).UnixMilli()
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("scrape source %s: parse the page: %s", x.source, brief(err.Error()))
		}
		if err := x.entry(p, entry, latest); err != nil {
			return fmt.Errorf("scrape source %s: %w", x.source, err)
		}
	}
	if x.over != nil {
		return fmt.Errorf("scrape source %s: %w", x.source, x.over)
	}
	x.starts.set(&x.values.round, x.values.number)
	x.aside.set(&x.values.timed, x.values.number)
	return nil
}

// parser returns the one for a page of that type.
func (x *exposition) parser(body []byte, contentType string) (textparse.Parser, error) {
	// The conversion to native histograms is put around the parsers of texts
	// here, so that one can see which it is.
	p, err := textparse.New(body, contentType, x.symbols, textparse.ParserOptions{})
	if err != nil {
		return nil, fmt.Errorf("scrape source %s: its Content-Type %q is not one of metrics, such as text/plain; version=0.0.4: correct the url, or write fallback_scrape_protocol", x.source, brief(contentType))
	}
	s := x.rules
	_, x.lines.openMetrics = p.(*textparse.OpenMetricsParser)
	_, x.lines.protobuf = p.(*textparse.ProtobufParser)
	switch {
	case x.lines.protobuf:
		return textparse.NewProtobufParser(body, !s.NativeHistograms, s.ClassicHistograms, s.ConvertToNHCB, false, x.symbols), nil
	case s.ConvertToNHCB:
		return textparse.NewNHCBParser(p, x.symbols, s.ClassicHistograms, false), nil
	}
	return p, nil
}

func (x *exposition) entry(p textparse.Parser, entry textparse.Entry, latest int64) error {
	switch entry {
	case textparse.EntryType:
		name, kind := p.Type()
		x.family = x.lines.describe(name)
		x.family.setType(kind)
		x.lines.starting = x.lines.openMetrics && starts(kind)
	case textparse.EntryHelp:
		name, help := p.Help()
		x.family = x.lines.describe(name)
		x.family.setHelp(help)
	case textparse.EntryUnit:
		name, unit := p.Unit()
		x.family = x.lines.describe(name)
		x.family.setUnit(unit)
	case textparse.EntrySeries:
		raw, at, v := p.Series()
		if at != nil && x.lines.openMetrics {
			*at = exactTime(raw, *at)
		}
		return x.sample(p, reading{raw: raw, at: at, v: v}, latest)
	case textparse.EntryHistogram:
		raw, at, h, fh := p.Histogram()
		return x.sample(p, reading{raw: raw, at: at, native: true, h: h, fh: fh}, latest)
	}
	return nil
}

// sample takes one reading into the round. An error fails the page.
func (x *exposition) sample(p textparse.Parser, r reading, latest int64) error {
	if !x.rules.HonorTimestamps {
		r.at = nil
	}
	l, again := x.lines.find(r.raw)
	known := l != nil
	var c candidate
	if !known || !x.lines.current(l, x.family, r.native) {
		p.Labels(&x.lset)
		var err error
		if c, err = x.lines.resolve(r.raw, x.lset, x.family); err != nil {
			x.scraped++
			x.fail(err)
			return err
		}
		if l = nil; c.created || c.log.IsEmpty() {
			if l, err = x.lines.learn(r.raw, &c, x.family, r.native); err != nil {
				return err
			}
		}
	}
	if l != nil && l.series == nil && l.start != nil {
		l.start.set(x.values.number, r.v)
		return nil
	}
	x.scraped++
	x.offer(1)
	if l != nil && l.series == nil {
		x.refuse(refusedRelabel, 1)
		return nil
	}
	if err := x.admit(p, l, &c, r, again, known, latest); err != nil {
		return err
	}
	x.kept++
	return nil
}

// admit takes a reading into the round if nothing speaks against it. l is nil if
// its line has to be learnt first: Prometheus keeps no line of a sample that it
// refuses.
func (x *exposition) admit(p textparse.Parser, l *line, c *candidate, r reading, again, known bool, latest int64) error {
	if again && r.at == nil {
		x.duplicate(r)
		return nil
	}
	if fits, err := x.fits(&r, known); !fits {
		return err
	}
	if r.at != nil && *r.at > latest {
		if x.refuse(refusedFuture, 1) {
			x.explain(refusedFuture, fmt.Errorf("the own time of %s is more than %s ahead: the clock of its host is wrong, or the unit of the time", brief(r.raw), maxAhead))
		}
		return nil
	}
	if err := x.valid(r); err != nil {
		return err
	}
	if x.late(l, c, r) {
		if x.refuse(refusedNotNewer, 1) {
			x.explain(refusedNotNewer, fmt.Errorf("the time of %s is not after that of its last sample: it goes back, or that one was ahead", brief(r.raw)))
		}
		return nil
	}
	if l == nil {
		var err error
		if l, err = x.lines.learn(r.raw, c, x.family, r.native); err != nil {
			x.refuse(refusedInvalidLabel, 1)
			return err
		}
		if l == nil {
			x.refuseAs(overSeriesLimit, 1)
			return nil
		}
	}
	x.take(p, l, r, known)
	return nil
}

// late tells whether the log has a newer sample of the series, or another one of
// that time. What it has of the very same time it refuses itself, unless it is
// the same sample.
func (x *exposition) late(l *line, c *candidate, r reading) bool {
	lset, before, at := c.log, (*timed)(nil), x.values.stamp
	if l != nil {
		lset, before = l.series.handle.Labels(), l.series.lastTimed
	}
	switch {
	case r.at != nil:
		at = *r.at
	case l != nil && before == nil:
		return false // of earlier rounds alone
	}
	last, any := x.values.log.Last(lset)
	return any && (at < last || at == last && before != nil && !before.is(at, r.point(nil)))
}

func (x *exposition) take(p textparse.Parser, l *line, r reading, known bool) {
	s := starting{of: l.start}
	if !x.lines.openMetrics {
		s.at = p.StartTimestamp()
	}
	if !known && x.over == nil {
		x.added++
	}
	at := x.values.stamp
	if r.at != nil {
		at = *r.at
	}
	switch {
	case r.at == nil && x.add(l.series, r, s):
		x.use(1)
	case r.at == nil, at <= x.values.stamp && x.values.stamped(&l.series.series):
		x.duplicate(r)
	default:
		x.addTimed(l.series, r, s)
		x.use(1)
	}
	x.exemplars.take(p, l.series, at, r.native, &x.values.round)
}

func (x *exposition) duplicate(r reading) {
	if x.refuse(refusedDuplicate, 1) {
		x.explain(refusedDuplicate, fmt.Errorf("the page has %s twice and the first one counts", brief(r.raw)))
	}
}

func (x *exposition) add(s *scraped, r reading, start starting) bool {
	if r.native {
		if !x.values.addHistogram(&s.series, 0, r.h, r.fh) {
			return false
		}
		x.starts.histograms = append(x.starts.histograms, start)
		return true
	}
	if !x.values.add(&s.series, r.v) {
		return false
	}
	x.starts.samples = append(x.starts.samples, start)
	return true
}

// addTimed puts a sample with its own time beside the round, unless the log has
// it from an earlier page.
func (x *exposition) addTimed(s *scraped, r reading, start starting) {
	p := r.point(&s.series)
	if x.rules.TrackTimestampsStaleness {
		x.values.track(p)
	} else {
		x.values.show(p)
	}
	switch {
	case s.lastTimed.is(*r.at, p):
	case r.native:
		x.values.sendHistogram(&s.series, *r.at, r.h, r.fh)
		x.aside.histograms = append(x.aside.histograms, start)
	default:
		x.values.send(&s.series, *r.at, r.v)
		x.aside.samples = append(x.aside.samples, start)
	}
}

// is tells whether a sample is the one that was appended last.
func (t *timed) is(at int64, p point) bool {
	switch {
	case t == nil || t.at != at || p.native() != t.native():
		return false
	case p.h != nil:
		return p.h.Equals(t.h)
	case p.fh != nil:
		return p.fh.Equals(t.fh)
	}
	return math.Float64bits(p.v) == math.Float64bits(t.v)
}

// appended notes a sample with its own time.
func (s *scraped) appended(at int64, p point) {
	if s.lastTimed == nil {
		s.lastTimed = &timed{}
	}
	*s.lastTimed = timed{at, p}
}

// end comes after the round has been appended, or abandoned. A good one is
// what the next is compared with.
func (x *exposition) end(good bool) {
	if good {
		for _, s := range x.values.timed.Samples {
			x.lines.series[s.Series].appended(s.T, point{v: s.V})
		}
		for _, s := range x.values.timed.Histograms {
			x.lines.series[s.Series].appended(s.T, point{h: s.H, fh: s.FH})
		}
	}
	x.exemplars.end(good)
	x.lines.end(good && x.read)
}

// exactTime reads the time behind a series again: the parser of OpenMetrics may
// have cut off a whole millisecond.
func exactTime(raw []byte, parsed int64) int64 {
	line, _, _ := bytes.Cut(raw[len(raw):cap(raw)], []byte("\n"))
	_, line, _ = bytes.Cut(bytes.TrimLeft(line, " "), []byte(" ")) // the value
	text, _, _ := bytes.Cut(line, []byte(" "))
	sec, err := strconv.ParseFloat(string(text), 64)
	if ms := milliseconds(sec); err == nil && (ms == parsed+1 || ms == parsed-1) {
		return ms
	}
	return parsed
}
