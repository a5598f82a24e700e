package remotewrite

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"

	"sql2metrics/wal"
)

// frameOf makes a frame of samples written "name{label=value} value@time".
func frameOf(t *testing.T, segment uint64, samples ...string) *wal.Frame {
	t.Helper()
	f := &wal.Frame{Series: make([]wal.SeriesEntry, 1)}
	f.Position.Segment = segment
	for _, s := range samples {
		var name, label, val string
		var r record.RefSample
		if _, err := fmt.Sscanf(strings.NewReplacer("{", " ", "=", " ", "}", "", "@", " ").Replace(s), "%s %s %s %g %d", &name, &label, &val, &r.V, &r.T); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		lset := labels.FromStrings("__name__", name, label, val)
		for i, e := range f.Series {
			if labels.Equal(e.Labels, lset) {
				r.Ref = chunks.HeadSeriesRef(i)
			}
		}
		if r.Ref == 0 {
			r.Ref = chunks.HeadSeriesRef(len(f.Series))
			f.Series = append(f.Series, wal.SeriesEntry{Labels: lset})
		}
		f.Samples = append(f.Samples, r)
	}
	return f
}

// requestsOf shows what a window would send.
func requestsOf(w *window) [][]string {
	var out [][]string
	for _, r := range w.requests {
		var lines []string
		for _, m := range w.series[r.series.first:r.series.last] {
			var name strings.Builder
			for i := 0; i < len(m.labels); i += 2 {
				fmt.Fprintf(&name, "%s=%s ", m.labels[i].text, m.labels[i+1].text)
			}
			for _, s := range w.appendRun(nil, m.samples) {
				lines = append(lines, fmt.Sprintf("%s%v@%d", name.String(), s.v, s.t))
			}
		}
		out = append(out, lines)
	}
	return out
}

func rule(t *testing.T, c relabel.Config) *relabel.Config {
	t.Helper()
	out := relabel.DefaultRelabelConfig
	if c.Action != "" {
		out.Action = c.Action
	}
	if c.Regex.Regexp != nil {
		out.Regex = c.Regex
	}
	if c.TargetLabel != "" {
		out.TargetLabel, out.Replacement = c.TargetLabel, c.Replacement
	}
	out.SourceLabels = c.SourceLabels
	if err := out.Validate(model.UTF8Validation); err != nil {
		t.Fatal(err)
	}
	return &out
}

func TestWindow(t *testing.T) {
	dropB := relabel.Config{Action: relabel.Drop, SourceLabels: model.LabelNames{"__name__"}, Regex: relabel.MustNewRegexp("b")}
	dropX := relabel.Config{Action: relabel.LabelDrop, Regex: relabel.MustNewRegexp("x")}
	dropAll := relabel.Config{Action: relabel.LabelDrop, Regex: relabel.MustNewRegexp(".*")}
	for name, c := range map[string]struct {
		frames   [][]string
		external labels.Labels
		rules    []relabel.Config
		limit    int
		want     [][]string
		dropped  map[Reason]wal.Totals
	}{
		"series in order of appearance, samples in order of time": {
			frames: [][]string{{"b{x=1} 1@1", "a{x=1} 2@1"}, {"a{x=1} 3@2", "c{x=1} 4@2", "b{x=1} 5@2"}},
			limit:  100,
			want:   [][]string{{"__name__=b x=1 1@1", "__name__=b x=1 5@2", "__name__=a x=1 2@1", "__name__=a x=1 3@2", "__name__=c x=1 4@2"}},
		},
		"cut between series": {
			frames: [][]string{{"a{x=1} 1@1", "b{x=1} 1@1", "c{x=1} 1@1"}, {"a{x=1} 1@2", "b{x=1} 1@2"}},
			limit:  3,
			want: [][]string{
				{"__name__=a x=1 1@1", "__name__=a x=1 1@2"},
				{"__name__=b x=1 1@1", "__name__=b x=1 1@2", "__name__=c x=1 1@1"},
			},
		},
		"a series larger than a request goes alone": {
			frames: [][]string{{"a{x=1} 1@1", "b{x=1} 1@1"}, {"b{x=1} 1@2"}, {"b{x=1} 1@3", "c{x=1} 1@3"}},
			limit:  2,
			want: [][]string{
				{"__name__=a x=1 1@1"},
				{"__name__=b x=1 1@1", "__name__=b x=1 1@2", "__name__=b x=1 1@3"},
				{"__name__=c x=1 1@3"},
			},
		},
		"external labels only where there are none": {
			frames:   [][]string{{"a{x=1} 1@1", "a{y=1} 1@1"}},
			external: labels.FromStrings("x", "ext"),
			limit:    100,
			want:     [][]string{{"__name__=a x=1 1@1", "__name__=a x=ext y=1 1@1"}},
		},
		"relabelling drops a series": {
			frames:  [][]string{{"a{x=1} 1@1", "b{x=1} 1@1"}, {"b{x=1} 1@2"}},
			rules:   []relabel.Config{dropB},
			limit:   100,
			want:    [][]string{{"__name__=a x=1 1@1"}},
			dropped: map[Reason]wal.Totals{ReasonRelabel: {Samples: 2}},
		},
		"relabelling sees external labels": {
			frames:   [][]string{{"a{y=1} 1@1"}},
			external: labels.FromStrings("x", "ext"),
			rules:    []relabel.Config{dropX},
			limit:    100,
			want:     [][]string{{"__name__=a y=1 1@1"}},
		},
		"a series left without labels is dropped": {
			frames:  [][]string{{"a{x=1} 1@1"}},
			rules:   []relabel.Config{dropAll},
			limit:   100,
			dropped: map[Reason]wal.Totals{ReasonRelabel: {Samples: 1}},
		},
		"of series that become one, the first in the log wins each time": {
			frames: [][]string{{"a{x=1} 1@2", "a{x=2} 2@2"}, {"a{x=2} 3@1", "a{x=2} 4@3"}},
			rules:  []relabel.Config{dropX},
			limit:  100,
			want:   [][]string{{"__name__=a 3@1", "__name__=a 1@2", "__name__=a 4@3"}},
			dropped: map[Reason]wal.Totals{
				ReasonDuplicate: {Samples: 1},
			},
		},
		"nothing left to send": {
			frames:  [][]string{{"b{x=1} 1@1"}},
			rules:   []relabel.Config{dropB},
			limit:   100,
			dropped: map[Reason]wal.Totals{ReasonRelabel: {Samples: 1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var rules []*relabel.Config
			for _, r := range c.rules {
				rules = append(rules, rule(t, r))
			}
			table := newTable(c.external, rules)
			w := &window{}
			// The second time everything is in use already.
			for range 2 {
				w.reset(table)
				for i, f := range c.frames {
					w.add(frameOf(t, uint64(i+1), f...), table)
				}
				w.cut(cutting{Limit: c.limit})
				if d := cmp.Diff(c.want, requestsOf(w)); d != "" {
					t.Errorf("requests (-want +got):\n%s", d)
				}
				want := c.dropped
				if want == nil {
					want = map[Reason]wal.Totals{}
				}
				if d := cmp.Diff(want, w.dropped); d != "" {
					t.Errorf("dropped (-want +got):\n%s", d)
				}
			}
		})
	}
}

func TestWindowWithoutSeries(t *testing.T) {
	f := frameOf(t, 1, "a{x=1} 1@1")
	f.Samples[0].Ref = 9
	f.Exemplars = []record.RefExemplar{{Ref: 1, T: 1, V: 1}}
	w, table := &window{}, newTable(labels.EmptyLabels(), nil)
	w.reset(table)
	w.add(f, table)
	w.cut(cutting{Limit: 10})
	want := map[Reason]wal.Totals{ReasonDamaged: {Samples: 1}, ReasonLoneExemplar: {Exemplars: 1}}
	if d := cmp.Diff(want, w.dropped); d != "" {
		t.Errorf("dropped (-want +got):\n%s", d)
	}
	if len(w.requests) != 0 {
		t.Errorf("%d requests, want none", len(w.requests))
	}
}

// TestTableForgets sees that series and symbols do not outlive two segments.
func TestTableForgets(t *testing.T) {
	table := newTable(labels.EmptyLabels(), nil)
	w := &window{}
	for segment := range uint64(100) {
		w.reset(table)
		f := frameOf(t, segment+1, fmt.Sprintf("a{x=%d} 1@1", segment), "b{x=0} 1@1")
		f.Series[1].Metadata.Help = fmt.Sprint("help ", segment)
		f.Exemplars = []record.RefExemplar{{Ref: 1, Labels: labels.FromStrings("trace_id", fmt.Sprint("t", segment))}}
		w.add(f, table)
		w.cut(cutting{Limit: 100})
	}
	w.reset(table)
	if len(table.series) > 4 || len(table.symbols) > 20 {
		t.Errorf("after 100 segments the table holds %d series and %d symbols, want those of the last", len(table.series), len(table.symbols))
	}
}
