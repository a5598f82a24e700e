package wal

import (
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// Metadata is what is known of a metric beside its samples.
type Metadata struct {
	Type       model.MetricType
	Unit, Help string
}

// Sample is one float sample. T and ST (start timestamp, 0 unknown) are Unix milliseconds.
type Sample struct {
	Series *Series
	ST, T  int64
	V      float64
}

// Histogram is one native histogram sample: H, or FH where H is nil.
type Histogram struct {
	Series *Series
	ST, T  int64
	H      *histogram.Histogram
	FH     *histogram.FloatHistogram
}

// Exemplar belongs to a series.
type Exemplar struct {
	Series *Series
	T      int64
	V      float64
	Labels labels.Labels
}

// Round is what one worker collected at once. The caller keeps it and may
// reuse its slices as soon as Append has returned.
type Round struct {
	Samples    []Sample
	Histograms []Histogram
	Exemplars  []Exemplar
	// State is what is kept with the samples: it goes into the frame that holds
	// the last of them, and nowhere if the log refuses all of them, or has no
	// room for it.
	State []State
	// OwnTime says that the samples' times come from the data and not from the clock.
	OwnTime bool
	// Booked, if set, is called once with what Append returns of the round, in
	// the moment in which Stats shows it: whoever looks through [Log.Audit]
	// sees both or neither. It must not block nor call the log. It is not
	// called if the log is closed.
	Booked func(Appended)

	again bool // from a segment set aside: times go back, and that is taken
}

// Totals counts what is in the round.
func (r *Round) Totals() Totals {
	return Totals{uint64(len(r.Samples)), uint64(len(r.Histograms)), uint64(len(r.Exemplars))}
}

// Appended tells what became of a round.
type Appended struct {
	// Appended is in the log now.
	Appended Totals
	// Kept could not be written and waits in memory. It survives neither the
	// process nor a disk that stays full for long: it is appended by a later
	// Sync, refused then as any other, or counted in Stats.Lost.
	Kept Totals
	// Refused is not, and never will be: its time was not after the last one
	// of its series, it was larger than a frame can be, or it was a histogram
	// without a known schema.
	Refused Totals
	// Unfit are those of the refused whose time was not looked at: larger than
	// a frame can hold, see [MaxLabelBytes], or of an unknown schema.
	Unfit Totals
}
