package remotewrite

import (
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"sql2metrics/wal"
)

// symbol is one string of label sets and metadata, held once per shipper. What
// a request needs of it, its place in the request's symbols, is kept in it, so
// that encoding looks nothing up.
type symbol struct {
	text    string
	uses    int    // by series, and by exemplars of the window
	request uint64 // number of the request that ref belongs to
	ref     uint32 // index into that request's symbols
}

// string is the text that s stands for; no symbol is the empty one.
func (s *symbol) string() string {
	if s == nil {
		return ""
	}
	return s.text
}

// series is one label set as the endpoint sees it: after external labels and
// relabelling. Several series of the log may be one series here.
type series struct {
	labels []*symbol // names and values in turn, in order of names
	kind   model.MetricType
	help   *symbol // nil: empty
	unit   *symbol // nil: empty

	v1 []byte // the labels as 1.0 has them in each TimeSeries; made on first use

	next       *series // of the same hash
	generation uint64  // of the newest segment it was resolved in
	aloneUntil int64   // it travels alone: Unix milliseconds

	window uint64 // number of the window that index belongs to
	index  int32  // place in the window's series
}

// equal tells whether s has the label set lset.
func (s *series) equal(lset labels.Labels) bool {
	if len(s.labels) != 2*lset.Len() {
		return false
	}
	i, same := 0, true
	lset.Range(func(l labels.Label) {
		same = same && s.labels[i].text == l.Name && s.labels[i+1].text == l.Value
		i += 2
	})
	return same
}

// table knows the series of an endpoint. Within a segment, a reference of the
// log leads to its series by one index; relabelling happens once per series
// and segment.
type table struct {
	external []labels.Label
	relabel  []*relabel.Config
	builder  *labels.Builder

	symbols map[string]*symbol
	series  map[uint64]*series // by hash of the label set

	segment    uint64    // that refs belongs to
	refs       []*series // by reference; nil: not resolved yet
	dropped    *series   // stands for every series that relabelling drops
	generation uint64    // counts segments
	swept      uint64    // generation of the last sweep
}

func newTable(external labels.Labels, rules []*relabel.Config) *table {
	t := &table{
		relabel: rules,
		builder: labels.NewBuilder(labels.EmptyLabels()),
		symbols: map[string]*symbol{},
		series:  map[uint64]*series{},
		dropped: &series{},
	}
	external.Range(func(l labels.Label) { t.external = append(t.external, l) })
	return t
}

// enter prepares t for the references of a frame of the named segment.
func (t *table) enter(segment uint64) {
	if segment == t.segment && t.generation > 0 {
		return
	}
	t.segment = segment
	t.generation++
	clear(t.refs)
	t.refs = t.refs[:0]
}

// resolve returns the series that ref stands for in the segment entered last,
// t.dropped if relabelling drops it, nil if the segment's table does not have
// it.
func (t *table) resolve(ref chunks.HeadSeriesRef, entries []wal.SeriesEntry) *series {
	if ref < chunks.HeadSeriesRef(len(t.refs)) && t.refs[ref] != nil {
		return t.refs[ref]
	}
	if ref >= chunks.HeadSeriesRef(len(entries)) || entries[ref].Labels.IsEmpty() {
		return nil
	}
	for len(t.refs) < len(entries) {
		t.refs = append(t.refs, nil)
	}
	s := t.dropped
	if lset, keep := t.process(entries[ref].Labels); keep {
		s = t.intern(lset)
		s.generation = t.generation
	}
	t.refs[ref] = s
	return s
}

// process applies external labels and relabelling. A label set that is left
// empty is dropped.
func (t *table) process(lset labels.Labels) (labels.Labels, bool) {
	if len(t.external) == 0 && len(t.relabel) == 0 {
		lset = lset.WithoutEmpty()
		return lset, !lset.IsEmpty()
	}
	t.builder.Reset(lset)
	for _, l := range t.external {
		if t.builder.Get(l.Name) == "" {
			t.builder.Set(l.Name, l.Value)
		}
	}
	if !relabel.ProcessBuilder(t.builder, t.relabel...) {
		return labels.EmptyLabels(), false
	}
	lset = t.builder.Labels()
	return lset, !lset.IsEmpty()
}

func (t *table) intern(lset labels.Labels) *series {
	hash := lset.Hash()
	for s := t.series[hash]; s != nil; s = s.next {
		if s.equal(lset) {
			return s
		}
	}
	s := &series{next: t.series[hash], labels: t.symbolize(lset)}
	t.series[hash] = s
	return s
}

// metadata is what describe was given last.
func (s *series) metadata() wal.Metadata {
	return wal.Metadata{Type: s.kind, Help: s.help.string(), Unit: s.unit.string()}
}

// describe makes m the metadata of s.
func (t *table) describe(s *series, m wal.Metadata) {
	help, unit := t.symbol(m.Help), t.symbol(m.Unit)
	t.release(s.help)
	t.release(s.unit)
	s.kind, s.help, s.unit = m.Type, help, unit
}

func (t *table) symbolize(lset labels.Labels) []*symbol {
	out := make([]*symbol, 0, 2*lset.Len())
	lset.Range(func(l labels.Label) {
		if l.Value != "" {
			out = append(out, t.symbol(l.Name), t.symbol(l.Value))
		}
	})
	return out
}

// symbol returns the symbol of text, to be given back with release. The empty
// text has none: it is every request's symbol 0.
func (t *table) symbol(text string) *symbol {
	if text == "" {
		return nil
	}
	sym := t.symbols[text]
	if sym == nil {
		// A clone, because text may be part of a whole label set.
		sym = &symbol{text: strings.Clone(text)}
		t.symbols[sym.text] = sym
	}
	sym.uses++
	return sym
}

func (t *table) release(sym *symbol) {
	if sym == nil {
		return
	}
	if sym.uses--; sym.uses == 0 {
		delete(t.symbols, sym.text)
	}
}

// sweep forgets series that neither the newest segment nor the one before it
// had, so that the table stays as large as what is alive. It must not be
// called while a window holds series.
func (t *table) sweep() {
	if t.generation < t.swept+2 {
		return
	}
	t.swept = t.generation
	for hash, s := range t.series {
		var kept *series
		for s != nil {
			next := s.next
			if s.generation+1 >= t.generation {
				s.next, kept = kept, s
			} else {
				t.forget(s)
			}
			s = next
		}
		if kept == nil {
			delete(t.series, hash)
		} else {
			t.series[hash] = kept
		}
	}
}

func (t *table) forget(s *series) {
	for _, sym := range s.labels {
		t.release(sym)
	}
	t.release(s.help)
	t.release(s.unit)
}
