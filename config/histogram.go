package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"go.yaml.in/yaml/v3"
)

// histogramFields is the block histogram of a metric as it was read.
type histogramFields struct {
	object
	HistogramOptions
	form string
}

// The values of histogram.form.
const (
	formClassic = "classic"
	formNative  = "native"
	formBoth    = "both"
)

const defaultSchema = 3 // bounds a factor of 2^(1/8), 9 %, apart

var histogramTable = table[histogramFields]{
	fields: map[string]func(node, *histogramFields){
		"mode": func(n node, h *histogramFields) {
			oneOf(n, &h.Mode, HistogramBuckets, HistogramSnapshot, HistogramAccumulate)
		},
		"le":     func(n node, h *histogramFields) { n.string(&h.Le) },
		"bucket": func(n node, h *histogramFields) { n.string(&h.Bucket) },
		// Columns or bounds: the mode, which may stand below it, says which.
		"buckets":    func(node, *histogramFields) {},
		"cumulative": func(n node, h *histogramFields) { n.bool(&h.Cumulative) },
		"sum":        func(n node, h *histogramFields) { n.string(&h.Sum) },
		"count":      func(n node, h *histogramFields) { n.string(&h.Count) },
		"value":      func(n node, h *histogramFields) { n.string(&h.Value) },
		"form":       func(n node, h *histogramFields) { oneOf(n, &h.form, formClassic, formNative, formBoth) },
		"schema":     func(n node, h *histogramFields) { n.schema(&h.Schema) },
	},
	refused: map[string]refusal{
		"native": {"is one of the forms", "write form: native, or form: both for classic and native"},
		"cursor": {"stands beside histogram, not in it", "move it to the metric"},
	},
}

// finishHistogram checks the block histogram, and the cursor beside it.
func (m *metric) finishHistogram() {
	if !m.require("histogram", "describe where its buckets come from, such as histogram: {mode: snapshot, value: seconds, buckets: [0.1, 1, 10]}") {
		return
	}
	h := &histogramFields{HistogramOptions: HistogramOptions{Cumulative: true, Schema: defaultSchema}, form: formClassic}
	h.object = decode(m.at("histogram"), histogramTable, h)
	h.Classic, h.Native = h.form != formNative, h.form != formClassic
	m.histogram = h
	m.HistogramOptions = &h.HistogramOptions
	if !h.require("mode", "write buckets for counts of buckets, snapshot for the rows of one result, accumulate for all rows ever") {
		return
	}
	switch h.Mode {
	case HistogramBuckets:
		h.finishBuckets()
	case HistogramSnapshot, HistogramAccumulate:
		h.finishObservations()
	}
	if h.Mode == HistogramAccumulate {
		m.finishCursor()
	} else if h.Mode != "" && m.has("cursor") {
		m.at("cursor").fail("belongs to a histogram of mode accumulate", "delete it, or write mode: accumulate")
	}
}

// only reports fields that belong to other modes.
func (h *histogramFields) only(remedy string, others ...string) {
	for _, f := range others {
		if h.has(f) {
			h.at(f).fail("has no meaning in mode "+string(h.Mode), remedy)
		}
	}
}

// finishBuckets checks mode buckets: rows of le and bucket, or columns.
func (h *histogramFields) finishBuckets() {
	h.only("name the columns in le and bucket, or in buckets", "value", "schema")
	switch {
	case !h.has("buckets"):
		const remedy = "name the columns of a bucket's upper bound and of its count in le and bucket, or those of all buckets in buckets"
		if h.require("le", remedy) {
			h.require("bucket", remedy)
		}
		return
	case h.has("le"), h.has("bucket"):
		h.exclusive("buckets", "le")
		h.exclusive("buckets", "bucket")
		return
	}
	at := h.at("buckets")
	if at.yaml.Kind == yaml.SequenceNode {
		at.wrongType("a mapping of upper bounds and columns", `buckets: {0.1: fast, 1: slow, +Inf: all}`)
		return
	}
	for _, e := range at.entries() {
		b := BucketColumn{}
		e.value.string(&b.Column)
		if le, ok := e.value.bound(e.key); ok {
			b.Le = le
			h.Columns = append(h.Columns, b)
		}
	}
	slices.SortStableFunc(h.Columns, func(a, b BucketColumn) int { return cmp.Compare(a.Le, b.Le) })
	for i, b := range h.Columns[min(1, len(h.Columns)):] {
		if b.Le == h.Columns[i].Le {
			at.fail(fmt.Sprintf("has the upper bound %v twice", b.Le), "keep one of the two")
		}
	}
	switch last := len(h.Columns) - 1; {
	case last < 0:
		if at.isNull() || at.yaml.Kind == yaml.MappingNode && len(at.yaml.Content) == 0 {
			at.fail("has no buckets", "write upper bounds and columns, such as {0.1: fast, 1: slow, +Inf: all}")
		}
	case !math.IsInf(h.Columns[last].Le, 1) && h.Count == "":
		at.fail(fmt.Sprintf("says nothing of what is above %v", h.Columns[last].Le), "add a column for +Inf, or one of all observations as count")
	}
}

// finishObservations checks the modes whose rows are observations.
func (h *histogramFields) finishObservations() {
	h.only("name the column of the observation in value, and the upper bounds in buckets", "le", "bucket", "cumulative", "sum", "count")
	h.require("value", "name the column of the observation")
	if h.has("buckets") {
		if h.has("schema") {
			h.at("schema").fail("stands beside buckets, whose bounds a native histogram has", "keep one of the two")
		}
		h.readBounds()
		return
	}
	switch {
	case h.Classic:
		h.require("buckets", "write the upper bounds, such as [0.1, 1, 10], or form: native")
	case h.Schema < -4 || h.Schema > 8:
		h.at("schema").fail(fmt.Sprintf("is %d", h.Schema), "write a number from -4 to 8: bounds are a factor of 2^(2^-schema) apart")
	}
	switch {
	case !h.Classic || !h.has("schema"):
	case h.Native:
		h.at("schema").fail("has no meaning in form both, whose native histogram has the bounds of the classic one", "delete it and write buckets, or write form: native")
	default:
		h.at("schema").fail("belongs to native histograms", "delete it, or write form: native")
	}
}

func (h *histogramFields) readBounds() {
	at := h.at("buckets")
	if at.yaml.Kind == yaml.MappingNode {
		at.wrongType("a list of upper bounds", "[0.1, 1, 10]")
		return
	}
	for _, item := range at.list() {
		s, ok := item.text()
		if !ok {
			continue
		}
		le, ok := item.bound(s)
		switch n := len(h.Bounds); {
		case !ok:
		case math.IsInf(le, 1):
			item.fail("is in every histogram", "delete it")
		case n > 0 && le <= h.Bounds[n-1]:
			item.fail(fmt.Sprintf("%v does not come after %v", le, h.Bounds[n-1]), "write the upper bounds in rising order, each once")
		default:
			h.Bounds = append(h.Bounds, le)
		}
	}
	if at.isEmptyList() {
		at.fail("is an empty list", "write the upper bounds, such as [0.1, 1, 10]")
	}
}

// bound returns an upper bound, and reports what can be none.
func (n node) bound(s string) (float64, bool) {
	le, err := parseNumber(s)
	if err != nil || math.IsNaN(le) || math.IsInf(le, -1) {
		n.fail(fmt.Sprintf("%q is not an upper bound", s), "write a number, or +Inf")
		return 0, false
	}
	return le, true
}

func (n node) schema(into *int32) {
	var i int
	if n.int(math.MinInt32, &i); i <= math.MaxInt32 {
		*into = int32(i)
	} else {
		*into = math.MaxInt32
	}
}

// columns returns the columns the block names, each with its place.
func (h *histogramFields) columns() []entry {
	all := h.named("le", "bucket", "sum", "count", "value")
	for _, b := range h.Columns {
		all = append(all, entry{b.Column, h.at("buckets")})
	}
	return all
}

// named returns the texts of those of the fields that were written.
func (o object) named(fields ...string) []entry {
	var all []entry
	for _, f := range fields {
		if o.has(f) && o.at(f).yaml.Kind == yaml.ScalarNode {
			all = append(all, entry{o.at(f).yaml.Value, o.at(f)})
		}
	}
	return all
}
