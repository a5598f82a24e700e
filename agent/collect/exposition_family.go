package collect

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"

	"sql2metrics/wal"
)

// exposed is a metric family of a target, by what its metadata lines say.
type exposed struct {
	name    string
	meta    wal.Metadata
	version uint64 // one more with each change of meta
	scrape  uint64 // the last one it was described in
}

// described is for how many scrapes a family is known that no page describes, as
// in Prometheus.
const described = 10

// suffixes are what the names of a family's series may add to its own.
var suffixes = map[model.MetricType][]string{
	model.MetricTypeCounter:        {"", "_total"},
	model.MetricTypeHistogram:      {"", "_bucket", "_sum", "_count"},
	model.MetricTypeGaugeHistogram: {"", "_bucket", "_gsum", "_gcount"},
	model.MetricTypeSummary:        {"", "_sum", "_count"},
	model.MetricTypeInfo:           {"", "_info"},
}

// base is the name that the suffixes go with. Prometheus's text format calls
// a counter's family by the name of its series.
func (f *exposed) base() string {
	switch f.meta.Type {
	case model.MetricTypeCounter:
		return strings.TrimSuffix(f.name, "_total")
	case model.MetricTypeInfo:
		return strings.TrimSuffix(f.name, "_info")
	}
	return f.name
}

// has tells whether a series of that name belongs to the family. Metadata
// lines are optional, and a series without any may follow another family.
func (f *exposed) has(name string) bool {
	if !strings.HasPrefix(name, f.name) {
		return false
	}
	suffix := name[len(f.base()):]
	return suffix == "" || slices.Contains(suffixes[f.meta.Type], suffix)
}

// starts tells whether metrics of that type may have a start timestamp.
func starts(t model.MetricType) bool {
	switch t {
	case model.MetricTypeCounter, model.MetricTypeHistogram, model.MetricTypeSummary:
		return true
	}
	return false
}

// describe returns the family that a metadata line is of. As in Prometheus the
// line adds to what earlier ones, and earlier pages, say of it.
func (ls *lines) describe(name []byte) *exposed {
	f := ls.families[string(name)]
	if f == nil {
		f = &exposed{name: string(name), meta: wal.Metadata{Type: model.MetricTypeUnknown}}
		ls.families[f.name] = f
	}
	if f.scrape != ls.scrape {
		f.scrape = ls.scrape
		ls.seenFamilies++
	}
	return f
}

func (f *exposed) setType(t model.MetricType) {
	if f.meta.Type != t {
		f.meta.Type = t
		f.version++
	}
}

func (f *exposed) setHelp(help []byte) {
	if f.meta.Help != string(help) {
		f.meta.Help = string(help)
		f.version++
	}
}

func (f *exposed) setUnit(unit []byte) {
	if f.meta.Unit != string(unit) {
		f.meta.Unit = string(unit)
		f.version++
	}
}
