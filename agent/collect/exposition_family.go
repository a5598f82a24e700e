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
	round   uint64 // the last one it was described in
}

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

// metadata collects the metadata lines of one family. Its buffers are its own:
// what a parser returns is valid until it goes on.
type metadata struct {
	name, help, unit []byte
	kind             model.MetricType
	has              struct{ help, unit, kind bool }
	fresh            bool // describe has not seen it yet
}

// of begins anew when the lines of another family begin, or further ones come
// after its series.
func (m *metadata) of(name []byte) {
	if !m.fresh || string(m.name) != string(name) {
		m.reset(name)
		m.fresh = true
	}
}

func (m *metadata) reset(name []byte) {
	*m = metadata{name: append(m.name[:0], name...), help: m.help[:0], unit: m.unit[:0], kind: model.MetricTypeUnknown}
}

func (m *metadata) setType(name []byte, t model.MetricType) {
	m.of(name)
	m.kind, m.has.kind = t, true
}

func (m *metadata) setHelp(name, help []byte) {
	m.of(name)
	m.help, m.has.help = append(m.help[:0], help...), true
}

func (m *metadata) setUnit(name, unit []byte) {
	m.of(name)
	m.unit, m.has.unit = append(m.unit[:0], unit...), true
}

// tells tells whether what it has is what is known of a family. Of one that the
// page has described before, it adds to that.
func (m *metadata) tells(meta *wal.Metadata, before bool) bool {
	return (meta.Type == m.kind || before && !m.has.kind) &&
		(meta.Help == string(m.help) || before && !m.has.help) &&
		(meta.Unit == string(m.unit) || before && !m.has.unit)
}

// describe returns the family that the metadata lines just read are of.
func (ls *lines) describe(m *metadata) *exposed {
	m.fresh = false
	f := ls.families[string(m.name)]
	if f == nil {
		f = &exposed{name: string(m.name)}
		ls.families[f.name] = f
	}
	before := f.round == ls.round
	if !m.tells(&f.meta, before) {
		if m.has.kind || !before {
			f.meta.Type = m.kind
		}
		if m.has.help || !before {
			f.meta.Help = string(m.help)
		}
		if m.has.unit || !before {
			f.meta.Unit = string(m.unit)
		}
		f.version++
	}
	if !before {
		f.round = ls.round
		ls.seenFamilies++
	}
	return f
}
