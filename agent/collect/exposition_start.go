package collect

import (
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/wal"
)

// start is the start timestamp of one metric of OpenMetrics: of a counter, or of
// all series of a histogram or a summary.
type start struct {
	key   string
	users int // lines
	round uint64
	at    int64 // Unix milliseconds, in that round
}

// set takes the value of a _created line.
func (s *start) set(round uint64, seconds float64) {
	s.round, s.at = round, milliseconds(seconds)
}

// milliseconds returns a time of OpenMetrics in Unix milliseconds. What is below
// one is cut off, as Prometheus does it, but a whole one is kept where the nearest
// float64 to the seconds lies below it, as it does for half of all times.
func milliseconds(seconds float64) int64 {
	ms := seconds * 1000
	if whole := math.Round(ms); math.Abs(ms-whole) < 1e-3 {
		return int64(whole)
	}
	return int64(ms)
}

// createdSuffix is that of lines that tell start timestamps. As in Prometheus
// all are such that stand behind a TYPE whose metrics have them.
const createdSuffix = "_created"

// start returns the start timestamp of the metric that a line belongs to: its
// name and the labels that all its lines have.
func (ls *lines) start(name string, f *exposed, lset labels.Labels) *start {
	lb := labels.NewBuilder(lset).Del(model.MetricNameLabel)
	switch f.meta.Type {
	case model.MetricTypeHistogram:
		lb.Del(model.BucketLabel)
	case model.MetricTypeSummary:
		lb.Del(model.QuantileLabel)
	}
	key := name + "\xff" + string(lb.Labels().Bytes(nil))
	s := ls.starts[key]
	if s == nil {
		s = &start{key: key}
		ls.starts[key] = s
	}
	s.users++
	return s
}

// starting is the start timestamp of a sample: as the parser has it, or of the
// metric it belongs to, once the _created line has been read.
type starting struct {
	at int64
	of *start
}

func (s starting) get(round uint64) int64 {
	if s.of != nil && s.of.round == round {
		return s.of.at
	}
	return s.at
}

// startings are those of each sample and each native histogram of a round.
type startings struct{ samples, histograms []starting }

func (s *startings) reset() { s.samples, s.histograms = s.samples[:0], s.histograms[:0] }

// set gives the round its start timestamps, at the end of the page: the _created
// lines of OpenMetrics come behind what they tell about. Prometheus looks ahead
// for them from each sample, which takes the square of the time in a family that
// has none.
func (s *startings) set(r *wal.Round, number uint64) {
	for i, at := range s.samples {
		r.Samples[i].ST = at.get(number)
	}
	for i, at := range s.histograms {
		r.Histograms[i].ST = at.get(number)
	}
}
