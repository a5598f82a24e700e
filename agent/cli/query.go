package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/agent/collect"
	"sql2metrics/config"
	"sql2metrics/sources"
	"sql2metrics/wal"
)

func addQuery(app *kingpin.Application) (string, command) {
	cmd := app.Command("query", "Run queries of a source once and show the rows and the samples they become. Nothing is shipped or kept.")
	var q queryCommand
	cmd.Arg("source", "Name of the source.").Required().StringVar(&q.source)
	cmd.Flag("execute", "Run this statement instead of the configured queries, and show its rows.").Short('e').IsSetByUser(&q.execute).StringVar(&q.sql)
	cmd.Flag("collector", "Only the queries of collectors with this name or glob.").StringVar(&q.collector)
	cmd.Flag("format", "table or json.").Default("table").EnumVar(&q.format, "table", "json")
	return cmd.FullCommand(), q.run
}

type queryCommand struct {
	source, sql, collector, format string
	execute                        bool // sql is set, if only to nothing
}

// result is what one query gave, in the shape of the JSON output.
type result struct {
	Source    string      `json:"source"`
	Collector string      `json:"collector,omitempty"`
	Query     string      `json:"query,omitempty"`
	Seconds   float64     `json:"seconds"`
	Columns   []string    `json:"columns,omitzero"`
	Rows      [][]*string `json:"rows,omitzero"` // nil of an exposition, which has none
	Samples   []sample    `json:"samples"`
	Error     string      `json:"error,omitempty"`
}

type sample struct {
	Labels    labels.Labels  `json:"labels"`
	Exemplar  *labels.Labels `json:"exemplar,omitempty"` // its own labels, for a line that is an exemplar
	Value     string         `json:"value"`              // as in Prometheus's HTTP API, a string: JSON has no NaN
	Timestamp float64        `json:"timestamp"`
}

func (q *queryCommand) run(g *global) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	source, err := q.find(c)
	if err != nil {
		return err
	}
	if source.Type == config.TypePrometheus {
		return q.scrape(g, source)
	}
	queries, err := q.selected(source)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(g)
	defer stop()
	client, err := sources.Open(source, sources.Options{Logger: g.logger})
	if err != nil {
		return fmt.Errorf("open source %s: %w", source.Name, err)
	}
	defer client.Close()
	var failed []error
	for _, query := range queries {
		r, err := preview(ctx, g, source, query, client)
		if err != nil {
			r.Error = err.Error()
			failed = append(failed, err)
		}
		if err := r.print(g.stdout, q.format); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

func (q *queryCommand) find(c *config.Config) (config.Source, error) {
	var names []string
	for _, s := range c.Sources {
		if s.Name == q.source {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return config.Source{}, fmt.Errorf("no source %q in the configuration; it has %s", q.source, strings.Join(names, ", "))
}

func (q *queryCommand) selected(s config.Source) ([]config.Query, error) {
	if q.execute {
		if q.collector != "" {
			return nil, errors.New("--execute and --collector exclude each other")
		}
		return []config.Query{{Name: "execute", SQL: q.sql, Clock: config.Clock{Interval: s.Interval}, Timeout: s.Timeout}}, nil
	}
	var selected []config.Query
	var names []string
	for _, query := range s.Queries {
		names = append(names, query.Collector)
		matches, err := path.Match(q.collector, query.Collector)
		if err != nil {
			return nil, fmt.Errorf("--collector %q: %w", q.collector, err)
		}
		if matches || q.collector == "" {
			selected = append(selected, query)
		}
	}
	if len(selected) == 0 {
		return nil, fmt.Errorf("source %s has no query of collector %q; it has %s", s.Name, q.collector, strings.Join(slices.Compact(names), ", "))
	}
	return selected, nil
}

// preview steps a real worker once on a log of its own in a temporary folder,
// so that what is shown is what the agent would have appended.
func preview(ctx context.Context, g *global, s config.Source, q config.Query, client sources.Source) (result, error) {
	r := result{Source: s.Name, Collector: q.Collector, Query: q.Name, Columns: []string{}, Rows: [][]*string{}, Samples: []sample{}}
	log, remove, err := scratchLog(ctx, g)
	if err != nil {
		return r, err
	}
	defer remove()
	w := collect.NewWorker(collect.WorkerOptions{
		Source:  s,
		Query:   q,
		Client:  &recorder{Source: client, result: &r},
		Health:  collect.NewHealth(s.Name, slog.New(slog.DiscardHandler)), // its words are the error's
		Log:     log,
		Metrics: collect.NewMetrics(prometheus.NewRegistry()),
		Logger:  g.logger,
		Clock:   time.Now,
	})
	defer w.Close()
	err = r.step(ctx, w.Step, log) // before r is returned
	return r, err
}

// step takes one step of a worker, which appends to log, and keeps what came of
// it.
func (r *result) step(ctx context.Context, step func(context.Context, time.Time) error, log *wal.Log) (err error) {
	start := time.Now()
	if err := step(ctx, start); err != nil {
		return err
	}
	r.Seconds = time.Since(start).Seconds()
	r.Samples, err = samplesOf(log)
	return err
}

// scratchLog returns a log in a temporary folder, and what removes both.
func scratchLog(ctx context.Context, g *global) (*wal.Log, func(), error) {
	folder, err := os.MkdirTemp("", "sql2metrics-query-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder for the samples: %w", err)
	}
	log, err := wal.Open(ctx, wal.Options{Path: folder, Sync: wal.SyncNever, Logger: g.logger}, time.Now())
	if err != nil {
		_ = os.RemoveAll(folder)
		return nil, nil, err
	}
	return log, func() {
		_ = log.Close()
		_ = os.RemoveAll(folder)
	}, nil
}

func samplesOf(log *wal.Log) ([]sample, error) {
	reader := log.Reader(wal.Position{})
	defer reader.Close()
	all := []sample{}
	var f wal.Frame
	for {
		err := reader.Next(&f)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		for _, s := range f.Samples {
			all = append(all, sample{
				Labels:    f.Series[s.Ref].Labels,
				Value:     strconv.FormatFloat(s.V, 'g', -1, 64),
				Timestamp: float64(s.T) / 1000,
			})
		}
		for _, h := range f.Histograms {
			all = append(all, sample{
				Labels:    f.Series[h.Ref].Labels,
				Value:     h.H.String(),
				Timestamp: float64(h.T) / 1000,
			})
		}
	}
}

// recorder is a source that keeps a copy of the rows it hands on.
type recorder struct {
	sources.Source
	result *result
}

// Query implements sources.Source.
func (r *recorder) Query(ctx context.Context, q config.Query, each func(*sources.Row) error) error {
	return r.Source.Query(ctx, q, func(row *sources.Row) error {
		r.result.Columns = row.Columns
		cells := make([]*string, len(row.Values))
		for i, v := range row.Values {
			if !v.IsNull() {
				text := string(v.AppendText(nil))
				cells[i] = &text
			}
		}
		r.result.Rows = append(r.result.Rows, cells)
		return each(row)
	})
}

// printable quotes a cell that would move the cursor or break the table.
func printable(cell string) string {
	if strings.ContainsFunc(cell, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(cell)
	}
	return cell
}

func (r result) print(w io.Writer, format string) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	if r.Error != "" {
		return nil // it goes to standard error
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "-- source %s", r.Source)
	if r.Collector != "" {
		fmt.Fprintf(t, ", collector %s, query %s", r.Collector, r.Query)
	}
	if r.Rows == nil {
		fmt.Fprintf(t, ", seconds %.3f\n", r.Seconds)
	} else {
		fmt.Fprintf(t, ", rows %d, seconds %.3f\n", len(r.Rows), r.Seconds)
		fmt.Fprintln(t, strings.Join(r.Columns, "\t"))
	}
	for _, row := range r.Rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			if cell == nil {
				fmt.Fprint(t, "NULL")
			} else {
				fmt.Fprint(t, printable(*cell))
			}
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Samples) > 0 {
		fmt.Fprintf(w, "-- samples %d at %s\n", len(r.Samples), time.UnixMilli(int64(r.Samples[0].Timestamp*1000)).UTC().Format(time.RFC3339Nano))
	}
	for _, s := range r.Samples {
		name := s.Labels.Get(model.MetricNameLabel)
		rest := s.Labels.MatchLabels(false, model.MetricNameLabel)
		fmt.Fprintf(w, "%s%s %s\n", name, rest, s.Value)
	}
	_, err := fmt.Fprintln(w)
	return err
}
