package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"

	"sql2metrics/wal"
)

type dumpCommand struct {
	endpoint, metric, format string
	start, end               string
}

func addWALDump(app *kingpin.Application) (string, command) {
	cmd := walCommand(app).Command("dump", "Print what is in the log, oldest first: one line a sample, as metric{labels} value milliseconds, an exemplar with # and its own labels before the value, or as JSON.")
	var d dumpCommand
	cmd.Flag("endpoint", "Only what this endpoint has not passed.").StringVar(&d.endpoint)
	cmd.Flag("metric", "Only this metric.").StringVar(&d.metric)
	cmd.Flag("start", "Only samples from this time on, as 2026-03-01T12:00:00Z or Unix seconds.").StringVar(&d.start)
	cmd.Flag("end", "Only samples up to this time.").StringVar(&d.end)
	cmd.Flag("format", "text or json.").Default("text").EnumVar(&d.format, "text", "json")
	return cmd.FullCommand(), d.run
}

func (d *dumpCommand) run(g *global) error {
	from, err := milliseconds(d.start, math.MinInt64)
	if err != nil {
		return fmt.Errorf("--start: %w", err)
	}
	to, err := milliseconds(d.end, math.MaxInt64)
	if err != nil {
		return fmt.Errorf("--end: %w", err)
	}
	path, o, err := g.inspect()
	if err != nil {
		return err
	}
	r, err := d.open(path, o)
	if err != nil {
		return err
	}
	defer r.Close()
	ctx, stop := interruptible(g)
	defer stop()
	out := printer{w: g.stdout, json: d.format == "json"}
	progress := newProgress(g.stderr, o)
	if isTerminal(g.stdout) {
		progress.w = nil // the samples themselves show it
	}
	defer progress.end()
	return eachFrame(ctx, r, o, func(f *wal.Frame) error {
		progress.at(f.Position, time.Now())
		if f.Counts.Exemplars == 0 && (f.MaxT < from || f.MinT > to) {
			return nil
		}
		wanted := func(s wal.SeriesEntry, t int64) bool {
			return t >= from && t <= to && (d.metric == "" || s.Labels.Get(model.MetricNameLabel) == d.metric)
		}
		for _, s := range f.Samples {
			if series := f.Series[s.Ref]; wanted(series, s.T) {
				out.print(sample{Labels: series.Labels, Value: formatValue(s.V)}, s.T)
			}
		}
		for _, h := range f.Histograms {
			if series := f.Series[h.Ref]; wanted(series, h.T) {
				out.print(sample{Labels: series.Labels, Value: h.H.String()}, h.T)
			}
		}
		for _, h := range f.FloatHistograms {
			if series := f.Series[h.Ref]; wanted(series, h.T) {
				out.print(sample{Labels: series.Labels, Value: h.FH.String()}, h.T)
			}
		}
		for _, e := range f.Exemplars {
			if series := f.Series[e.Ref]; wanted(series, e.T) {
				out.print(sample{Labels: series.Labels, Exemplar: &e.Labels, Value: formatValue(e.V)}, e.T)
			}
		}
		return out.err
	})
}

func (d *dumpCommand) open(path string, o wal.Overview) (*wal.Reader, error) {
	if d.endpoint == "" {
		return wal.Read(path)
	}
	for _, c := range o.Cursors {
		if c.Name != d.endpoint {
			continue
		}
		if c.Problem != "" {
			return nil, fmt.Errorf("the place of endpoint %s is not known: %s", c.Name, c.Problem)
		}
		return wal.ReadAfter(path, c.Position)
	}
	return nil, fmt.Errorf("no endpoint %q has a place in the log in %s; sql2metrics wal stats lists them", d.endpoint, path)
}

// printer writes samples until an error, which it keeps.
type printer struct {
	w    io.Writer
	json bool
	err  error
}

func (p *printer) print(s sample, t int64) {
	s.Timestamp = float64(t) / 1000
	switch {
	case p.err != nil:
	case p.json:
		p.err = json.NewEncoder(p.w).Encode(s)
	default:
		series := s.Labels.Get(model.MetricNameLabel) + s.Labels.MatchLabels(false, model.MetricNameLabel).String()
		if s.Exemplar != nil {
			series += " # " + s.Exemplar.String()
		}
		_, p.err = fmt.Fprintf(p.w, "%s %s %d\n", series, s.Value, t)
	}
}

func formatValue(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// milliseconds reads a time as people and scripts write it.
func milliseconds(s string, otherwise int64) (int64, error) {
	if s == "" {
		return otherwise, nil
	}
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		return int64(seconds * 1000), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time; write 2026-03-01T12:00:00Z or Unix seconds", s)
	}
	return t.UnixMilli(), nil
}
