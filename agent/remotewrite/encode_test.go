package remotewrite

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// modelSeries is a series of a random window, as Prometheus's own types
// would be filled from it.
type modelSeries struct {
	labels     labels.Labels
	metadata   wal.Metadata
	samples    []sample
	histograms []histogramSample
	exemplars  []modelExemplar
}

type modelExemplar struct {
	t      int64
	v      float64
	labels labels.Labels
}

// weight is what counts against max_samples_per_send.
func (m modelSeries) weight() int { return len(m.samples) + len(m.histograms) }

// randomWindow returns the series of a window in order of first appearance,
// and the frames they come in.
func randomWindow(r *rand.Rand) ([]modelSeries, []wal.Frame) {
	all := make([]modelSeries, 1+r.IntN(12))
	table := make([]wal.SeriesEntry, len(all)+1)
	metadata := []wal.Metadata{
		{Type: model.MetricTypeGauge, Help: "Orders, by status."},
		{Type: model.MetricTypeCounter, Unit: "bytes", Help: "Bytes."},
		{Type: model.MetricTypeHistogram},
		{},
	}
	for i := range all {
		all[i].labels = labels.FromStrings("__name__", fmt.Sprintf("m%d", i%3), "i", fmt.Sprint(i), "ünicode", "ß")
		all[i].metadata = metadata[r.IntN(len(metadata))]
		table[i+1] = wal.SeriesEntry{Labels: all[i].labels, Metadata: all[i].metadata}
	}
	values := []float64{0, 1, -1.5, math.Copysign(0, -1), math.Inf(1), math.NaN(), math.Float64frombits(value.StaleNaN), math.MaxFloat64}
	var frames []wal.Frame
	var order []int
	t := int64(r.IntN(3)) * -1000
	for range r.IntN(6) {
		f := wal.Frame{Series: table}
		f.Position.Segment, f.Position.Seq = 7, uint64(len(frames)+1)
		t += 1 + int64(r.IntN(1_000_000_000_000))
		for _, i := range r.Perm(len(all)) {
			ref, st, m := chunks.HeadSeriesRef(i+1), t*int64(r.IntN(2)), &all[i]
			kind := r.IntN(8)
			switch {
			case kind == 0:
				continue
			case kind == 1:
				h := tsdbutil.GenerateTestHistogram(int64(i))
				f.Histograms = append(f.Histograms, record.RefHistogramSample{Ref: ref, ST: st, T: t, H: h})
				m.histograms = append(m.histograms, histogramSample{st: st, t: t, h: h})
			case kind == 2:
				h := tsdbutil.GenerateTestCustomBucketsFloatHistogram(int64(i))
				f.FloatHistograms = append(f.FloatHistograms, record.RefFloatHistogramSample{Ref: ref, ST: st, T: t, FH: h})
				m.histograms = append(m.histograms, histogramSample{st: st, t: t, fh: h})
			default:
				v := values[r.IntN(len(values))]
				f.Samples = append(f.Samples, record.RefSample{Ref: ref, ST: st, T: t, V: v})
				m.samples = append(m.samples, sample{st: st, t: t, v: v})
			}
			if r.IntN(4) == 0 {
				x := modelExemplar{t: t - 1, v: v(r), labels: labels.FromStrings("trace_id", fmt.Sprint(r.Uint32()), "i", "1")}
				f.Exemplars = append(f.Exemplars, record.RefExemplar{Ref: ref, T: x.t, V: x.v, Labels: x.labels})
				m.exemplars = append(m.exemplars, x)
			}
		}
		for _, s := range f.Samples {
			order = append(order, int(s.Ref)-1)
		}
		for _, s := range f.Histograms {
			order = append(order, int(s.Ref)-1)
		}
		for _, s := range f.FloatHistograms {
			order = append(order, int(s.Ref)-1)
		}
		frames = append(frames, f)
	}
	var appeared []modelSeries
	for i, n := range order {
		if !slices.Contains(order[:i], n) {
			appeared = append(appeared, all[n])
		}
	}
	return appeared, frames
}

func v(r *rand.Rand) float64 { return 1 + r.Float64() }

// modelRequests cuts between series.
func modelRequests(series []modelSeries, limit int) [][]modelSeries {
	var out [][]modelSeries
	size := 0
	for _, s := range series {
		if len(out) == 0 || size+s.weight() > limit {
			out, size = append(out, nil), 0
		}
		out[len(out)-1] = append(out[len(out)-1], s)
		size += s.weight()
	}
	return out
}

// referenceV2 is what Prometheus's own types make of a request.
func referenceV2(tb testing.TB, series []modelSeries) *writev2.Request {
	tb.Helper()
	var m writev2.Request
	symbols := writev2.NewSymbolTable()
	for _, s := range series {
		refs := symbols.SymbolizeLabels(s.labels, nil)
		meta := writev2.Metadata{
			Type:    writev2.FromMetadataType(s.metadata.Type),
			HelpRef: symbols.Symbolize(s.metadata.Help),
			UnitRef: symbols.Symbolize(s.metadata.Unit),
		}
		var exemplars []writev2.Exemplar
		for _, x := range s.exemplars {
			exemplars = append(exemplars, writev2.Exemplar{
				LabelsRefs: symbols.SymbolizeLabels(x.labels, nil), Value: x.v, Timestamp: x.t,
			})
		}
		if len(s.samples) > 0 {
			ts := writev2.TimeSeries{LabelsRefs: refs, Metadata: meta, Exemplars: exemplars}
			for _, p := range s.samples {
				ts.Samples = append(ts.Samples, writev2.Sample{Value: p.v, Timestamp: p.t, StartTimestamp: p.st})
			}
			m.Timeseries, exemplars = append(m.Timeseries, ts), nil
		}
		if len(s.histograms) > 0 {
			ts := writev2.TimeSeries{LabelsRefs: refs, Metadata: meta, Exemplars: exemplars}
			for _, h := range s.histograms {
				if h.h != nil {
					ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(h.st, h.t, h.h))
				} else {
					ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(h.st, h.t, h.fh))
				}
			}
			m.Timeseries = append(m.Timeseries, ts)
		}
	}
	m.Symbols = symbols.Symbols()
	return &m
}

// referenceV1 leaves out histograms with custom buckets, as Prometheus does.
func referenceV1(series []modelSeries) *prompb.WriteRequest {
	var m prompb.WriteRequest
	for _, s := range series {
		s.histograms = slices.DeleteFunc(slices.Clone(s.histograms), func(h histogramSample) bool { return h.custom() })
		lset := prompb.FromLabels(s.labels, nil)
		var exemplars []prompb.Exemplar
		for _, x := range s.exemplars {
			exemplars = append(exemplars, prompb.Exemplar{Labels: prompb.FromLabels(x.labels, nil), Value: x.v, Timestamp: x.t})
		}
		if len(s.samples) > 0 {
			ts := prompb.TimeSeries{Labels: lset, Exemplars: exemplars}
			for _, p := range s.samples {
				ts.Samples = append(ts.Samples, prompb.Sample{Value: p.v, Timestamp: p.t})
			}
			m.Timeseries, exemplars = append(m.Timeseries, ts), nil
		}
		if len(s.histograms) > 0 {
			ts := prompb.TimeSeries{Labels: lset, Exemplars: exemplars}
			for _, h := range s.histograms {
				if h.h != nil {
					ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(h.t, h.h))
				} else {
					ts.Histograms = append(ts.Histograms, prompb.FromFloatHistogram(h.t, h.fh))
				}
			}
			m.Timeseries = append(m.Timeseries, ts)
		}
	}
	return &m
}

// FuzzEncode compares random windows, cut and encoded, with what Prometheus's
// own types hold after decoding, and checks what 2.0 asks of symbols.
func FuzzEncode(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed, uint8(seed%7))
	}
	f.Fuzz(func(t *testing.T, seed uint64, limit uint8) {
		series, frames := randomWindow(rand.New(rand.NewPCG(seed, 1)))
		max := 1 + int(limit)%8
		w, table := &window{}, newTable(labels.EmptyLabels(), nil)
		w.reset(table)
		for i := range frames {
			w.add(&frames[i], table)
		}
		w.cut(cutting{Limit: max})
		want := modelRequests(series, max)
		if len(w.requests) != len(want) {
			t.Fatalf("%d requests, want %d", len(w.requests), len(want))
		}
		var e encoder
		for i := range w.requests {
			var v2 writev2.Request
			if err := v2.Unmarshal(e.append(nil, config.ProtocolV2, w, &w.requests[i].piece)); err != nil {
				t.Fatal(err)
			}
			equalMessages(t, &v2, referenceV2(t, want[i]))
			sorted := slices.Sorted(slices.Values(v2.Symbols))
			if v2.Symbols[0] != "" || len(slices.Compact(sorted)) != len(v2.Symbols) {
				t.Errorf("symbols are %q, want the empty one first and none twice", v2.Symbols)
			}
			var v1 prompb.WriteRequest
			if err := v1.Unmarshal(e.append(nil, config.ProtocolV1, w, &w.requests[i].piece)); err != nil {
				t.Fatal(err)
			}
			equalMessages(t, &v1, referenceV1(want[i]))
		}
	})
}

// equalMessages compares floats by their bits, for the sake of stale markers
// and minus zero.
func equalMessages(t *testing.T, got, want any) {
	t.Helper()
	bits := cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })
	if d := cmp.Diff(want, got, bits, cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("decoded request (-want +got):\n%s", d)
	}
}

// TestEncodeAsPrometheusDoes holds the bytes themselves, where there is
// nothing that gogo writes differently.
func TestEncodeAsPrometheusDoes(t *testing.T) {
	series := []modelSeries{
		{
			labels:   labels.FromStrings("__name__", "a_total", "x", "1"),
			metadata: wal.Metadata{Type: model.MetricTypeCounter, Help: "As.", Unit: "as"},
			samples:  []sample{{st: 5, t: 1000, v: 0}, {st: 5, t: 2000, v: 2.5}},
		},
		{
			labels:    labels.FromStrings("__name__", "a_total", "x", "2"),
			metadata:  wal.Metadata{Type: model.MetricTypeCounter, Help: "As.", Unit: "as"},
			samples:   []sample{{t: 1000, v: math.Float64frombits(value.StaleNaN)}},
			exemplars: []modelExemplar{{t: 999, v: 1, labels: labels.FromStrings("trace_id", "7")}},
		},
		{
			labels:     labels.FromStrings("__name__", "h"),
			metadata:   wal.Metadata{Type: model.MetricTypeHistogram, Help: "Hs."},
			histograms: []histogramSample{{st: 5, t: 1000, h: tsdbutil.GenerateTestHistogram(3)}},
		},
	}
	w, table := &window{}, newTable(labels.EmptyLabels(), nil)
	w.reset(table)
	f := wal.Frame{Series: make([]wal.SeriesEntry, 1)}
	f.Position.Segment = 1
	for i, s := range series {
		ref := chunks.HeadSeriesRef(i + 1)
		f.Series = append(f.Series, wal.SeriesEntry{Labels: s.labels, Metadata: s.metadata})
		for _, p := range s.samples {
			f.Samples = append(f.Samples, record.RefSample{Ref: ref, ST: p.st, T: p.t, V: p.v})
		}
		for _, h := range s.histograms {
			f.Histograms = append(f.Histograms, record.RefHistogramSample{Ref: ref, ST: h.st, T: h.t, H: h.h})
		}
		for _, x := range s.exemplars {
			f.Exemplars = append(f.Exemplars, record.RefExemplar{Ref: ref, T: x.t, V: x.v, Labels: x.labels})
		}
	}
	w.add(&f, table)
	w.cut(cutting{Limit: 100})

	want2, err := referenceV2(t, series).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want1, err := referenceV1(series).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var e encoder
	if got := e.append(nil, config.ProtocolV2, w, &w.requests[0].piece); !bytes.Equal(got, want2) {
		t.Errorf("2.0:\n% x\nwant\n% x", got, want2)
	}
	if got := e.append(nil, config.ProtocolV1, w, &w.requests[0].piece); !bytes.Equal(got, want1) {
		t.Errorf("1.0:\n% x\nwant\n% x", got, want1)
	}
}

// TestEncodeAllocatesNothing runs a window through the encoder as the loop
// does, with buffers that have their size.
func TestEncodeAllocatesNothing(t *testing.T) {
	w, _ := benchmarkWindow(3000, 4)
	w.cut(cutting{Limit: 2000})
	for _, p := range []config.Protocol{config.ProtocolV1, config.ProtocolV2} {
		var e encoder
		var buf []byte
		encode := func() {
			for i := range w.requests {
				buf = e.append(buf[:0], p, w, &w.requests[i].piece)
			}
		}
		encode()
		// Many runs, among which what others in the process allocate is lost.
		if n := testing.AllocsPerRun(50, encode); n != 0 {
			t.Errorf("%s: %v allocations per window, want none", wireVersion(p), n)
		}
	}
}

// TestWindowKeepsCopies lets the reader overwrite its histograms.
func TestWindowKeepsCopies(t *testing.T) {
	h := tsdbutil.GenerateTestHistogram(1)
	want := h.Copy()
	f := wal.Frame{
		Series:     []wal.SeriesEntry{{}, {Labels: labels.FromStrings("__name__", "h")}},
		Histograms: []record.RefHistogramSample{{Ref: 1, T: 1, H: h}},
	}
	w, table := &window{}, newTable(labels.EmptyLabels(), nil)
	w.reset(table)
	w.add(&f, table)
	*h = histogram.Histogram{}
	w.cut(cutting{Limit: 10})
	if !w.histograms[0].h.Equals(want) {
		t.Error("the window shares a histogram with the frame")
	}
}
