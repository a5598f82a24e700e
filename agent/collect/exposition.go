package collect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"sql2metrics/wal"
)

// maxAhead is how far in the future a sample's own time may lie, as in
// Prometheus: further ahead it would keep its series shut until then.
const maxAhead = 10 * time.Minute

// exposition turns what one target exposes into samples of the round, page
// after page. What it knows of a line it keeps by the line's bytes, so that a
// series that was on the page before costs one look-up and allocates nothing.
type exposition struct {
	source string
	target target
	values *values
	refusals
	lines lines

	symbols *labels.SymbolTable
	about   metadata   // of the family the parser is in
	family  *exposed   // likewise
	none    exposed    // the family of lines before all metadata
	starts  []starting // for each sample of values.round
	aside   []starting // for each of values.timed
	newest  []freshest // for each exemplar of the round
	example exemplar.Exemplar
	lset    labels.Labels
	read    bool // the page was not empty

	// What Prometheus reports of a scrape.
	scraped int // samples on the page
	kept    int // of those, what relabelling left
	added   int // series that were not on the page before
}

// starting is the start timestamp of a sample: as the parser has it, or of the
// metric it belongs to, once the _created line has been read.
type starting struct {
	at int64
	of *start
}

// freshest is an exemplar of the round and the series it would be the newest of.
type freshest struct {
	series   *scraped
	exemplar exemplar.Exemplar
}

func newExposition(source string, t target, v *values) *exposition {
	return &exposition{source: source, target: t, values: v, lines: newLines(t, v), symbols: labels.NewSymbolTable()}
}

// begin comes before each scrape.
func (x *exposition) begin() {
	x.lines.begin()
	x.about.reset(nil)
	x.family = &x.none
	x.starts, x.aside, x.newest = x.starts[:0], x.aside[:0], x.newest[:0]
	x.read = false
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
	p, err := textparse.New(body, contentType, x.symbols, textparse.ParserOptions{})
	if err != nil {
		return fmt.Errorf("scrape source %s: its Content-Type %q is not one of metrics, such as text/plain; version=0.0.4: correct the url", x.source, contentType)
	}
	_, x.lines.openMetrics = p.(*textparse.OpenMetricsParser)
	latest := now.Add(maxAhead).UnixMilli()
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			x.setStarts()
			return nil
		}
		if err == nil {
			err = x.entry(p, entry, latest)
		}
		if err != nil {
			return fmt.Errorf("scrape source %s: parse the page: %w", x.source, err)
		}
	}
}

func (x *exposition) entry(p textparse.Parser, entry textparse.Entry, latest int64) error {
	switch entry {
	case textparse.EntryType:
		x.about.setType(p.Type())
	case textparse.EntryHelp:
		x.about.setHelp(p.Help())
	case textparse.EntryUnit:
		x.about.setUnit(p.Unit())
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

// sample takes one reading into the round.
func (x *exposition) sample(p textparse.Parser, r reading, latest int64) error {
	if x.about.fresh {
		x.family = x.lines.describe(&x.about)
	}
	l, known := x.lines.find(r.raw, x.family)
	if l == nil {
		p.Labels(&x.lset)
		var err error
		if l, err = x.lines.learn(r.raw, x.lset, x.family); err != nil {
			x.scraped++
			return err
		}
		if l == nil {
			x.scraped++
			x.offer(1)
			x.refuseAs(overSeriesLimit, 1)
			return nil
		}
	}
	if l.series == nil {
		l.start.set(x.values.number, r.v)
		return nil
	}
	x.scraped++
	x.kept++
	x.offer(1)
	if r.at != nil && *r.at > latest {
		if x.refuse(refusedFuture, 1) {
			x.explain(refusedFuture, fmt.Errorf("the own time of %s is more than %s ahead: the clock of its host is wrong, or the unit of the time", r.raw, maxAhead))
		}
		return nil
	}
	if !known {
		x.added++
	}
	s := starting{of: l.start}
	if !x.lines.openMetrics {
		s.at = p.StartTimestamp()
	}
	switch {
	case r.at != nil:
		x.addTimed(l.series, r, s)
	case !x.add(l.series, r, s):
		if x.refuse(refusedDuplicate, 1) {
			x.explain(refusedDuplicate, fmt.Errorf("the page has %s twice and the first one counts", r.raw))
		}
		return nil
	}
	x.use(1)
	x.exemplars(p, l.series, r)
	return nil
}

func (x *exposition) add(s *scraped, r reading, start starting) bool {
	if r.native {
		return x.values.addHistogram(&s.series, start.at, r.h, r.fh)
	}
	if !x.values.add(&s.series, r.v) {
		return false
	}
	x.starts = append(x.starts, start)
	return true
}

func (x *exposition) addTimed(s *scraped, r reading, start starting) {
	switch {
	case r.native:
		x.values.addTimedHistogram(&s.series, start.at, *r.at, r.h, r.fh)
	case s.lastTimed.is(*r.at, r.v):
		x.values.show(&s.series, r.v)
	default:
		x.values.addTimed(&s.series, *r.at, r.v)
		x.aside = append(x.aside, start)
	}
}

// setStarts gives the samples their start timestamps, at the end: the _created
// lines of OpenMetrics come behind what they tell about. Prometheus looks
// ahead for them from each sample, which takes the square of the time in a
// family that has none.
func (x *exposition) setStarts() {
	set := func(samples []wal.Sample, starts []starting) {
		for i, s := range starts {
			if s.of != nil && s.of.round == x.values.number {
				s.at = s.of.at
			}
			samples[i].ST = s.at
		}
	}
	set(x.values.round.Samples, x.starts)
	set(x.values.timed.Samples, x.aside)
}

// exemplarRunes is how long an exemplar's labels may be, by the specification
// of OpenMetrics; receivers refuse longer ones.
const exemplarRunes = exemplar.ExemplarMaxLabelSetLength

// exemplars adds those of a sample that its series has not had before. One
// without a time gets that of the sample.
func (x *exposition) exemplars(p textparse.Parser, s *scraped, r reading) {
	first := len(x.newest)
	for x.example = (exemplar.Exemplar{}); p.Exemplar(&x.example); x.example = (exemplar.Exemplar{}) {
		e := x.example
		if !e.HasTs {
			if r.native {
				continue // Prometheus has no means to know it again
			}
			e.Ts = x.values.stamp
			if r.at != nil {
				e.Ts = *r.at
			}
		}
		if runes(e.Labels) <= exemplarRunes && !s.had(e) {
			x.newest = append(x.newest, freshest{s, e})
		}
	}
	slices.SortFunc(x.newest[first:], func(a, b freshest) int { return exemplar.Compare(a.exemplar, b.exemplar) })
	for _, n := range x.newest[first:] {
		x.values.round.Exemplars = append(x.values.round.Exemplars, wal.Exemplar{
			Series: s.handle, T: n.exemplar.Ts, V: n.exemplar.Value, Labels: n.exemplar.Labels,
		})
	}
}

func runes(lset labels.Labels) (n int) {
	lset.Range(func(l labels.Label) { n += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value) })
	return n
}

// end comes after the round has been appended, or abandoned. A good one is
// what the next is compared with.
func (x *exposition) end(good bool) {
	if good {
		for _, s := range x.values.timed.Samples {
			x.lines.series[s.Series].lastTimed = timed{s.T, math.Float64bits(s.V), true}
		}
		for _, n := range x.newest {
			n.series.lastExemplar = n.exemplar
		}
	}
	x.lines.end(good && x.read)
}

// exactTime reads the time behind a series again. The parser of OpenMetrics
// cuts off what is below a millisecond, and so a whole one where the nearest
// float64 to the seconds lies below them, as it does for half of all times.
func exactTime(raw []byte, parsed int64) int64 {
	line, _, _ := bytes.Cut(raw[len(raw):cap(raw)], []byte("\n"))
	_, line, _ = bytes.Cut(bytes.TrimLeft(line, " "), []byte(" ")) // the value
	text, _, _ := bytes.Cut(line, []byte(" "))
	sec, err := strconv.ParseFloat(string(text), 64)
	if ms := math.Round(sec * 1000); err == nil && math.Abs(ms-float64(parsed)) == 1 {
		return int64(ms)
	}
	return parsed
}
