package remotewrite

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// captured is a request in terms that both versions have.
type captured struct {
	post
	v2     *writev2.Request
	v1     *prompb.WriteRequest
	series []capturedSeries
}

type capturedSeries struct {
	names, values []string
	samples       []sample
	histograms    []int64 // times
	exemplars     int
	metadata      wal.Metadata
}

func (s capturedSeries) name() string { return s.values[slices.Index(s.names, "__name__")] }

func capture(t *testing.T, p post) captured {
	t.Helper()
	c := captured{post: p}
	raw, err := snappy.Decode(nil, p.body)
	if err != nil {
		t.Fatalf("not a snappy block: %v", err)
	}
	if p.header.Get("Content-Type") == "application/x-protobuf" {
		c.v1 = &prompb.WriteRequest{}
		if err := c.v1.Unmarshal(raw); err != nil {
			t.Fatal(err)
		}
		for _, ts := range c.v1.Timeseries {
			var s capturedSeries
			for _, l := range ts.Labels {
				s.names, s.values = append(s.names, l.Name), append(s.values, l.Value)
			}
			for _, x := range ts.Samples {
				s.samples = append(s.samples, sample{t: x.Timestamp, v: x.Value})
			}
			for _, h := range ts.Histograms {
				s.histograms = append(s.histograms, h.Timestamp)
			}
			s.exemplars = len(ts.Exemplars)
			c.series = append(c.series, s)
		}
		return c
	}
	c.v2 = &writev2.Request{}
	if err := c.v2.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	symbol := func(ref uint32) string {
		if int(ref) >= len(c.v2.Symbols) {
			t.Fatalf("reference %d into %d symbols", ref, len(c.v2.Symbols))
		}
		return c.v2.Symbols[ref]
	}
	for _, ts := range c.v2.Timeseries {
		var s capturedSeries
		if len(ts.LabelsRefs)%2 != 0 {
			t.Fatalf("%d references of labels", len(ts.LabelsRefs))
		}
		for i := 0; i < len(ts.LabelsRefs); i += 2 {
			s.names, s.values = append(s.names, symbol(ts.LabelsRefs[i])), append(s.values, symbol(ts.LabelsRefs[i+1]))
		}
		for _, x := range ts.Samples {
			s.samples = append(s.samples, sample{st: x.StartTimestamp, t: x.Timestamp, v: x.Value})
		}
		for _, h := range ts.Histograms {
			s.histograms = append(s.histograms, h.Timestamp)
		}
		for _, x := range ts.Exemplars {
			for _, ref := range x.LabelsRefs {
				symbol(ref)
			}
		}
		s.exemplars = len(ts.Exemplars)
		m, err := ts.ToMetadata(c.v2.Symbols)
		if err != nil {
			t.Fatal(err)
		}
		s.metadata = wal.Metadata{Type: m.Type, Help: m.Help, Unit: m.Unit}
		c.series = append(c.series, s)
	}
	return c
}

// everything ships one of each kind there is, in several requests, and returns
// them.
func everything(t *testing.T, p config.Protocol) []captured {
	t.Helper()
	j, f, o := backlog(t)
	o.Endpoint.Protocol = p
	o.Endpoint.Queue.MaxSamplesPerSend = 7
	o.Endpoint.Headers = map[string]config.Secret{"content-type": config.NewSecret("text/plain"), "X-Prometheus-Remote-Write-Version": config.NewSecret("9")}
	o.ExternalLabels = labels.FromStrings("cluster", "eu1")
	s := newShip(t, o)
	orders := j.Series(labels.FromStrings("__name__", "orders_total", "zone", "a", "empty", "", "ünicode", "ß"),
		wal.Metadata{Type: model.MetricTypeCounter, Help: "Orders.", Unit: "orders"})
	sizes := j.Series(labels.FromStrings("__name__", "sizes"), wal.Metadata{Type: model.MetricTypeHistogram, Help: "Sizes."})
	custom := j.Series(labels.FromStrings("__name__", "custom"), wal.Metadata{Type: model.MetricTypeHistogram})
	gone := j.Series(labels.FromStrings("__name__", "gone"), wal.Metadata{Type: model.MetricTypeGauge, Help: "Gone."})
	due := j.family("due", 20)
	for i := range 3 {
		at := epoch.Add(time.Duration(i) * time.Second)
		v := 1.0
		if i == 2 {
			v = math.Float64frombits(value.StaleNaN)
		}
		j.appendRound(at, wal.Round{
			Samples: append(round(due, at, float64(i)),
				wal.Sample{Series: orders, ST: epoch.Add(-time.Hour).UnixMilli(), T: at.UnixMilli(), V: float64(i)},
				wal.Sample{Series: gone, T: at.UnixMilli(), V: v}),
			Histograms: []wal.Histogram{
				{Series: sizes, T: at.UnixMilli(), H: tsdbutil.GenerateTestHistogram(int64(i))},
				{Series: custom, T: at.UnixMilli(), H: tsdbutil.GenerateTestCustomBucketsHistogram(int64(i))},
			},
			Exemplars: []wal.Exemplar{{Series: orders, T: at.UnixMilli(), V: 1, Labels: labels.FromStrings("trace_id", fmt.Sprint(i))}},
		})
	}
	f.answers(func(w http.ResponseWriter, p post) {
		for _, name := range []string{headerSamplesWritten, headerHistogramsWritten, headerExemplarsWritten} {
			w.Header().Set(name, "1000")
		}
		_, _ = w.Write([]byte("a body of a success says nothing"))
	})
	s.drain(epoch.Add(time.Minute))
	var all []captured
	for _, p := range f.received() {
		all = append(all, capture(t, p))
	}
	l := s.balance()
	unsupported := map[config.Protocol]uint64{config.ProtocolV1: 3}[p]
	if want := (wal.Totals{Samples: 66, Histograms: 6 - unsupported, Exemplars: 3}); l.Sent != want || l.Dropped[ReasonUnsupported].Histograms != unsupported {
		t.Errorf("ledger is %+v, want %+v sent", l, want)
	}
	return all
}

// TestProtocolDuties holds what the specifications of remote write ask of a
// sender, one row each, against captured requests. Retries and answers are in
// TestAnswerTable.
func TestProtocolDuties(t *testing.T) {
	v1, v2 := config.ProtocolV1, config.ProtocolV2
	both := []config.Protocol{v1, v2}
	requests := map[config.Protocol][]captured{v1: everything(t, v1), v2: everything(t, v2)}
	eachSeries := func(check func(s capturedSeries) error) func(captured) error {
		return func(c captured) error {
			for _, s := range c.series {
				if err := check(s); err != nil {
					return fmt.Errorf("series %q: %w", s.values, err)
				}
			}
			return nil
		}
	}
	header := func(name string, want map[string]string) func(captured) error {
		return func(c captured) error {
			version := "2.0"
			if c.v1 != nil {
				version = "1.0"
			}
			if got := c.header.Values(name); len(got) != 1 || got[0] != want[version] {
				return fmt.Errorf("%s is %q, want %q", name, got, want[version])
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		of    []config.Protocol
		check func(c captured) error
	}{
		"MUST say Content-Encoding snappy, in block format": {both, header("Content-Encoding", map[string]string{"1.0": "snappy", "2.0": "snappy"})},
		"MUST say Content-Type of the message, which users MUST NOT override": {both, header("Content-Type",
			map[string]string{"1.0": "application/x-protobuf", "2.0": "application/x-protobuf;proto=io.prometheus.write.v2.Request"})},
		"MUST say the version, which users MUST NOT override": {both, header("X-Prometheus-Remote-Write-Version", map[string]string{"1.0": "0.1.0", "2.0": "2.0.0"})},
		"MUST say User-Agent with name and version":           {both, header("User-Agent", map[string]string{"1.0": "sql2metrics/test", "2.0": "sql2metrics/test"})},
		"MUST have symbols that begin with the empty string": {[]config.Protocol{v2}, func(c captured) error {
			if len(c.v2.Symbols) == 0 || c.v2.Symbols[0] != "" {
				return fmt.Errorf("symbols are %q", c.v2.Symbols)
			}
			return nil
		}},
		"MUST have each symbol once": {[]config.Protocol{v2}, func(c captured) error {
			if sorted := slices.Sorted(slices.Values(c.v2.Symbols)); len(slices.Compact(sorted)) != len(c.v2.Symbols) {
				return fmt.Errorf("symbols are %q", c.v2.Symbols)
			}
			return nil
		}},
		"SHOULD have a metric name": {both, eachSeries(func(s capturedSeries) error {
			if !slices.Contains(s.names, "__name__") {
				return fmt.Errorf("names are %q", s.names)
			}
			return nil
		})},
		"MUST have label names in order, none twice": {both, eachSeries(func(s capturedSeries) error {
			if sorted := slices.Compact(slices.Sorted(slices.Values(s.names))); !slices.Equal(sorted, s.names) {
				return fmt.Errorf("names are %q", s.names)
			}
			return nil
		})},
		"MUST NOT have empty names or values, or what is not UTF-8": {both, eachSeries(func(s capturedSeries) error {
			for _, text := range append(slices.Clone(s.names), s.values...) {
				if text == "" || !utf8.ValidString(text) {
					return fmt.Errorf("a label is %q", text)
				}
			}
			return nil
		})},
		"MUST have the complete set of labels, external ones too": {both, eachSeries(func(s capturedSeries) error {
			if !slices.Contains(s.values, "eu1") {
				return fmt.Errorf("values are %q", s.values)
			}
			return nil
		})},
		"MUST have samples or histograms, and not both": {both, eachSeries(func(s capturedSeries) error {
			if (len(s.samples) > 0) == (len(s.histograms) > 0) {
				return fmt.Errorf("%d samples and %d histograms", len(s.samples), len(s.histograms))
			}
			return nil
		})},
		"MUST have the samples of a series in order of time": {both, eachSeries(func(s capturedSeries) error {
			if !slices.IsSortedFunc(s.samples, func(a, b sample) int { return int(a.t - b.t) }) || !slices.IsSorted(s.histograms) {
				return fmt.Errorf("%v, %v", s.samples, s.histograms)
			}
			return nil
		})},
		"MUST have a series once in a request": {both, func(c captured) error {
			seen := map[string]bool{}
			for _, s := range c.series {
				if key := strings.Join(append(slices.Clone(s.names), s.values...), "\xff"); seen[key] {
					return fmt.Errorf("series %q is there twice", s.values)
				} else {
					seen[key] = true
				}
			}
			return nil
		}},
		"MUST have exemplars with the samples of their series": {both, eachSeries(func(s capturedSeries) error {
			if s.name() == "orders_total" && (s.exemplars != 3 || len(s.samples) != 3) {
				return fmt.Errorf("%d exemplars beside %d samples", s.exemplars, len(s.samples))
			}
			return nil
		})},
		"SHOULD have type, help and unit": {[]config.Protocol{v2}, eachSeries(func(s capturedSeries) error {
			want := wal.Metadata{Type: model.MetricTypeCounter, Help: "Orders.", Unit: "orders"}
			if s.name() == "orders_total" && s.metadata != want {
				return fmt.Errorf("metadata is %+v", s.metadata)
			}
			return nil
		})},
		"SHOULD have start timestamps of counters": {[]config.Protocol{v2}, eachSeries(func(s capturedSeries) error {
			if s.name() == "orders_total" && s.samples[0].st != epoch.Add(-time.Hour).UnixMilli() {
				return fmt.Errorf("samples are %+v", s.samples)
			}
			return nil
		})},
		"MUST have stale markers as that NaN alone": {both, eachSeries(func(s capturedSeries) error {
			if s.name() == "gone" && math.Float64bits(s.samples[2].v) != value.StaleNaN {
				return fmt.Errorf("samples are %+v", s.samples)
			}
			return nil
		})},
		"no more samples than max_samples_per_send": {both, func(c captured) error {
			n := 0
			for _, s := range c.series {
				n += len(s.samples) + len(s.histograms)
			}
			if n > 7 {
				return fmt.Errorf("%d samples", n)
			}
			return nil
		}},
	} {
		for _, p := range c.of {
			t.Run(wireVersion(p)+" "+name, func(t *testing.T) {
				for i, request := range requests[p] {
					if err := c.check(request); err != nil {
						t.Errorf("request %d: %v", i, err)
					}
				}
				if len(requests[p]) < 8 {
					t.Errorf("%d requests, want enough to look at", len(requests[p]))
				}
			})
		}
	}
}

// TestKindsSwitchedOff keeps exemplars and native histograms back, counted.
func TestKindsSwitchedOff(t *testing.T) {
	j, f, o := backlog(t)
	o.Endpoint.SendExemplars, o.Endpoint.SendNativeHistograms = false, false
	s := newShip(t, o)
	orders := j.series("orders")
	j.appendRound(epoch, wal.Round{
		Samples:    []wal.Sample{{Series: orders, T: epoch.UnixMilli(), V: 1}},
		Histograms: []wal.Histogram{{Series: j.series("sizes"), T: epoch.UnixMilli(), H: tsdbutil.GenerateTestHistogram(1)}},
		Exemplars:  []wal.Exemplar{{Series: orders, T: epoch.UnixMilli(), V: 1, Labels: labels.FromStrings("trace_id", "1")}},
	})
	s.drain(epoch.Add(time.Minute))
	if l := s.balance(); l.Sent != (wal.Totals{Samples: 1}) || l.Dropped[ReasonDisabled] != (wal.Totals{Histograms: 1, Exemplars: 1}) {
		t.Errorf("ledger is %+v, want one sample sent and the others dropped", l)
	}
	posts := f.received()
	if len(posts) != 1 {
		t.Fatalf("%d requests, want one", len(posts))
	}
	if c := capture(t, posts[0]); len(c.series) != 1 || c.series[0].exemplars != 0 {
		t.Errorf("the request has %+v", c.series)
	}
}

// TestProtocolIsTriedAnewAfterADay has a receiver learn 2.0.
func TestProtocolIsTriedAnewAfterADay(t *testing.T) {
	j, f, o := backlog(t)
	s := newShip(t, o)
	f.speaks("0.1.0", func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnsupportedMediaType) })
	versions := func(at time.Duration) string {
		now := epoch.Add(at)
		j.append(now, round(j.family("due", 1), now, 1)...)
		s.drain(now.Add(5 * time.Second))
		var all []string
		for _, p := range f.received() {
			all = append(all, p.header.Get("X-Prometheus-Remote-Write-Version"))
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		at   time.Duration
		want string
	}{
		{0, "2.0.0 0.1.0"}, {time.Hour, "0.1.0"}, {23 * time.Hour, "0.1.0"},
		{25 * time.Hour, "2.0.0 0.1.0"}, {26 * time.Hour, "0.1.0"},
	} {
		if got := versions(c.at); got != c.want {
			t.Errorf("after %v: %q, want %q", c.at, got, c.want)
		}
	}
	f.takes()
	f.speaks("2.0.0", func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnsupportedMediaType) })
	if got := versions(27 * time.Hour); got != "0.1.0 2.0.0" {
		t.Errorf("when the receiver does not take 1.0: %q, want 2.0.0 after it", got)
	}
	if l := s.balance(); l.Sent.Samples != 6 || l.Protocol != "2.0" {
		t.Errorf("ledger is %+v, want 6 samples sent", l)
	}
}
