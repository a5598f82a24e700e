package wal

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/record"
)

// Sync says when appended frames are made safe against power loss. A killed
// process loses nothing in any mode.
type Sync int

// The sync modes.
const (
	SyncInterval Sync = iota // a group sync each Options.SyncInterval
	SyncAlways               // Append returns after a sync; rounds that wait share one
	SyncNever                // the kernel decides; written counts as synced
)

// Options shape a log. The zero value of each field means its default.
type Options struct {
	Path         string // the folder; made if missing
	MaxBytes     int64  // over it, the oldest segments go; 1 GiB
	Sync         Sync
	SyncInterval time.Duration // 1s
	SegmentBytes int64         // 8 MiB
	SegmentAge   time.Duration // 10m
	Logger       *slog.Logger
	Registerer   prometheus.Registerer // nil: no self metrics
	FS           FileSystem            // nil: the operating system's
}

// FileSystem is the seam for faults.
type FileSystem interface{}

// Metadata is what is known of a metric beside its samples.
type Metadata struct {
	Type       model.MetricType
	Unit, Help string
}

// Series is a handle to one label set in the log.
type Series struct{}

// Labels returns the label set.
func (s *Series) Labels() labels.Labels { panic("") }

// Sample is one float sample. T and ST (start timestamp, 0 unknown) are Unix milliseconds.
type Sample struct {
	Series *Series
	ST, T  int64
	V      float64
}

// Histogram is one native histogram sample, H or FH.
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

// Round is what one worker collected at once.
type Round struct {
	Samples    []Sample
	Histograms []Histogram
	Exemplars  []Exemplar
	// OwnTime says that the samples' times come from the data and not from the clock.
	OwnTime bool
}

// Appended tells what became of a round.
type Appended struct {
	Appended Totals // in the log now
	Refused  Totals // not: their time was not after the last of their series
}

// Log is the write-ahead log.
type Log struct{}

// Open opens the log in o.Path, making it if there is none.
func Open(ctx context.Context, o Options, now time.Time) (*Log, error) { panic("") }

// Series returns the handle of a label set.
func (l *Log) Series(lset labels.Labels, m Metadata) *Series { panic("") }

// Release gives a handle back.
func (l *Log) Release(s *Series) { panic("") }

// Append writes a round.
func (l *Log) Append(r *Round, now time.Time) (Appended, error) { panic("") }

// Sync is the step.
func (l *Log) Sync(now time.Time) error { panic("") }

// Run calls Sync each SyncInterval until ctx ends.
func (l *Log) Run(ctx context.Context) { panic("") }

// Changed returns a channel that is closed when more frames can be read.
func (l *Log) Changed() <-chan struct{} { panic("") }

// Stats is one consistent view of the log.
type Stats struct {
	Appended      Totals   // running totals after the newest frame
	Synced        Position // what readers may read up to
	Oldest        Position // just before the oldest frame there is
	Bytes         int64
	Segments      int
	NewerSegments int
}

// Stats returns one consistent view.
func (l *Log) Stats() Stats { panic("") }

// Close seals nothing, syncs and unlocks.
func (l *Log) Close() error { panic("") }

// Start says where a cursor that is new begins.
type Start int

// Where a new cursor begins.
const (
	StartEnd Start = iota
	StartOldest
)

// Cursor is an endpoint's persisted place in the log.
type Cursor struct{}

// Cursor opens the cursor of that name.
func (l *Log) Cursor(name string, start Start) (*Cursor, error) { panic("") }

// Position returns the acknowledged position as last saved.
func (c *Cursor) Position() Position { panic("") }

// State returns the bytes saved with it.
func (c *Cursor) State() []byte { panic("") }

// Save persists.
func (c *Cursor) Save(p Position, state []byte) error { panic("") }

// Close closes the file; the cursor holds segments no longer.
func (c *Cursor) Close() error { panic("") }

// Reader reads frames in order.
type Reader struct{}

// Reader returns a reader that begins after from.
func (l *Log) Reader(from Position) *Reader { panic("") }

// Read returns a reader over a log's folder without its lock.
func Read(path string) (*Reader, error) { panic("") }

// Next reads the next frame into f; io.EOF when there is none yet.
func (r *Reader) Next(f *Frame) error { panic("") }

// Close closes the open segment.
func (r *Reader) Close() error { panic("") }

// Frame is one decoded frame; valid until the next call of Next.
type Frame struct {
	Position   Position // just after this frame
	AppendedAt int64    // Unix milliseconds
	MinT, MaxT int64
	Counts     Totals // in this frame
	OwnTime    bool

	// Evicted and Damaged count what lies between the reader's last position
	// and this frame and is no more: removed to keep the bound, or unreadable.
	Evicted, Damaged Totals

	Samples         []record.RefSample
	Histograms      []record.RefHistogramSample
	FloatHistograms []record.RefFloatHistogramSample
	Exemplars       []record.RefExemplar
	// Series is indexed by Ref: the series of this frame's segment seen so far.
	Series []SeriesEntry
}

// SeriesEntry is a series as a segment's table has it.
type SeriesEntry struct {
	Labels   labels.Labels
	Metadata Metadata
}
