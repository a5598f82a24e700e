package config

import "time"

// Query is one statement, its clock and the metrics made from its rows.
type Query struct {
	// Name is query_name, unique in its collector. A metric's inline query has
	// the metric's name, with _2 and so on behind it if that is taken.
	Name      string
	Collector string // collector_name
	// SQL is the statement, in the words of the source: for Redis a command, for
	// http_json a request. It is literal: nothing in it is expanded but
	// {{cursor}}, by the worker of a histogram that accumulates.
	SQL      string
	Timeout  time.Duration
	Clock    Clock
	Policies Policies
	Requires Requires // requires and server_version: where it is run at all
	JSON     *JSON    // how an answer of an http_json source becomes rows; nil for others, and for HEAD
	Metrics  []Metric
}

// JSON says how a document becomes rows. Paths are those of gjson.
type JSON struct {
	// Rows leads to the rows: an array, each element of which is one, or an
	// object, which is one, unless a path in Columns is [JSONKey]: then each of
	// its members is one. Empty: the document.
	Rows string
	// Columns are the columns of a row, sorted by name. They are those that the
	// metrics of the query read: one that is not written is the member of that
	// name, and one that is written and not read is refused.
	Columns []JSONColumn
}

// JSONColumn is one column of a row.
type JSONColumn struct {
	Name string
	Path string // from the row
}

// JSONKey is the path of the name under which a row stands in its object, or of
// its place in its array, from 0.
const JSONKey = "@key"

// Clock says when a query runs and for how long its result holds.
type Clock struct {
	// Interval is between two ticks. With a Schedule it is only what the
	// defaults of the other fields are made from: the longest pause between two
	// ticks of the next year.
	Interval time.Duration
	Schedule *Schedule // instead of each Interval; nil: none
	Align    bool      // ticks at multiples of Interval since the Unix epoch, not spread by a hash
	// RunOnStart has a query with a Schedule, or a long Interval, run once soon
	// after start, spread over 30 s; true.
	RunOnStart bool

	// ResendInterval is the age at which the last result is emitted again, and
	// after that each time; only where Interval is longer. 1m; 0: never.
	ResendInterval time.Duration
	// StaleAfter is how long after the last success a result that is kept, or
	// emitted again, ends with stale markers; 3 x Interval, at least 5m.
	StaleAfter time.Duration
	// OnError says what becomes of the last result when a run fails.
	OnError OnError
	KeepFor time.Duration // with OnErrorKeepFor: since the last success
}

// OnError is what becomes of the last result when a run fails.
type OnError string

// The values of on_error.
const (
	OnErrorStale   OnError = "stale" // it ends with stale markers; the default up to an interval of 1m
	OnErrorKeep    OnError = "keep"  // it stays until StaleAfter; the default above
	OnErrorKeepFor OnError = "keep_for"
)

// Policies are about results that are too large.
type Policies struct {
	RowLimit    int     // rows of one result; 0: none
	SampleLimit int     // samples of one result; 0: none
	OnLimit     OnLimit // what becomes of a result that has more
}

// OnLimit is what becomes of a result over a limit.
type OnLimit string

// The values of on_limit.
const (
	OnLimitDrop     OnLimit = "drop"     // the run fails: nothing of the result is used, as with Prometheus's sample_limit; the default
	OnLimitTruncate OnLimit = "truncate" // what came before the limit is used
)

// OnNull is what becomes of a value that is NULL.
type OnNull string

// The values of on_null.
const (
	OnNullSkip OnNull = "skip" // no sample; the default
	OnNullZero OnNull = "zero"
	OnNullNaN  OnNull = "nan"
)

// OnDuplicate is what becomes of a row whose labels an earlier one of the
// result had.
type OnDuplicate string

// The values of on_duplicate.
const (
	OnDuplicateFirst OnDuplicate = "first" // the earlier one counts; the default
	OnDuplicateLast  OnDuplicate = "last"
	OnDuplicateSum   OnDuplicate = "sum"
	OnDuplicateDrop  OnDuplicate = "drop" // neither counts
)

// LabelLimits bound the labels of a series, as Prometheus's scrape limits do;
// 0: no bound. A series over one is refused and counted, its neighbours are not.
type LabelLimits struct {
	Count       int // label_limit
	NameLength  int // label_name_length_limit
	ValueLength int // label_value_length_limit
}

// MetricType is a Prometheus metric type.
type MetricType string

// The metric types that can be mapped.
const (
	Gauge     MetricType = "gauge"
	Counter   MetricType = "counter"
	Histogram MetricType = "histogram"
	Summary   MetricType = "summary"
	StateSet  MetricType = "stateset"
	Info      MetricType = "info"
)

// Metric says how rows of a query become samples of one metric name.
type Metric struct {
	Name         string
	Type         MetricType
	Help         string
	Unit         string            // of OpenMetrics; the end of Name, or empty
	KeyLabels    []string          // columns that become labels of the same name
	StaticLabels map[string]string // labels with a constant value, never an empty one

	// Values are the columns that hold numbers, of a gauge or a counter; the
	// column of the state, of a stateset. With one, each row is one sample. With
	// several, each row is one sample per column, told apart by the label
	// ValueLabel, whose value is the column's name. Other types have none: they
	// name their columns in fields of their own. Nor has a metric with a
	// StaticValue, nor an info.
	Values     []string
	ValueLabel string
	// StaticValue is the value of every row's sample; nil: it comes from Values.
	// An info has 1.
	StaticValue *float64

	HistogramOptions *HistogramOptions // of a histogram, nil for others
	SummaryOptions   *SummaryOptions   // of a summary, nil for others
	States           []string          // of a stateset: all there are, in order

	// TimestampValue is the column with the samples' own time; empty: they get
	// the time of their round. Of gauges and counters only.
	TimestampValue string
	Timestamp      Timestamp

	OnNull      OnNull
	OnDuplicate OnDuplicate
	// ValueMap turns texts into numbers; a text that is not in it is parsed.
	ValueMap    map[string]float64
	LabelLimits LabelLimits
}

// HistogramMode is where the buckets of a histogram come from.
type HistogramMode string

// The values of histogram.mode.
const (
	HistogramBuckets    HistogramMode = "buckets"    // from rows or columns with counts
	HistogramSnapshot   HistogramMode = "snapshot"   // from the rows of one result, an observation each
	HistogramAccumulate HistogramMode = "accumulate" // from all rows ever, read behind a cursor
)

// HistogramOptions say how rows become a histogram. Rows with equal key labels
// make one.
type HistogramOptions struct {
	Mode HistogramMode

	// Of mode buckets. A row is a bucket: Le is the column of its upper bound,
	// Bucket that of its count. Or a row is a histogram: Columns are those of its
	// counts, in order of their upper bounds.
	Le, Bucket string
	Columns    []BucketColumn
	Cumulative bool // the counts include those of the buckets below; true
	// Sum and Count are columns; empty: there is no sum, and the count is that
	// of the buckets. Where rows are buckets, the last row that has them counts.
	Sum, Count string

	// Of modes snapshot and accumulate: Value is the column of the observation,
	// Bounds are the upper bounds, rising, without +Inf.
	Value  string
	Bounds []float64

	// Native makes it a native histogram: with custom buckets from mode buckets,
	// or from Bounds where they are given, else with exponential buckets of
	// Schema. Classic makes the series with le as well; one of the two is set.
	Native  bool
	Classic bool
	Schema  int32 // -4 to 8; 3

	Cursor *Cursor // of mode accumulate, nil for others
}

// BucketColumn is the count of one bucket.
type BucketColumn struct {
	Le     float64 // the upper bound; +Inf is math.Inf(1)
	Column string
}

// Cursor is the column behind which rows are new. It stands as {{cursor}} in
// the SQL of its query.
type Cursor struct {
	Column string
	// Start is what it begins with, as it is written in SQL: a number, or a
	// text that is quoted where it is put in.
	Start string
	// Overlap is how far back it reaches again for rows that were committed
	// late: in units of a column of numbers, in seconds of a column of times.
	// Rows within it are remembered by their cursor and Key and counted once.
	Overlap float64
	Key     string // a column that is unique among rows of one cursor value; empty: the cursor is
}

// SummaryOptions are the columns of a summary. A row is a quantile; rows with
// equal key labels make one summary, whose sum and count the last row that has
// them gives.
type SummaryOptions struct {
	Quantile, Value string
	Sum, Count      string // empty: none
}

// Timestamp is about samples with their own time.
type Timestamp struct {
	Unit TimestampUnit
	// Location is the zone of times without one; UTC.
	Location  *time.Location
	MaxAge    time.Duration // older samples are refused and counted; 0: none
	OnlyNewer bool          // samples that are not after the newest of their series are passed over; true
}

// TimestampUnit is how numbers and texts are read as times. Database types of
// times need none.
type TimestampUnit string

// The values of timestamp.unit.
const (
	TimestampAuto         TimestampUnit = "" // seconds, or RFC 3339 if it is a text
	TimestampSeconds      TimestampUnit = "s"
	TimestampMilliseconds TimestampUnit = "ms"
	TimestampMicroseconds TimestampUnit = "us"
	TimestampNanoseconds  TimestampUnit = "ns"
)
