package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/mattn/go-isatty"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/wal"
)

// walCommand is what stats, dump and verify are commands of.
func walCommand(app *kingpin.Application) *kingpin.CmdClause {
	if cmd := app.GetCommand("wal"); cmd != nil {
		return cmd
	}
	return app.Command("wal", "Look into the log. Safe beside a running agent.")
}

// logFolder is --storage.path, so that a log can be looked into without the
// configuration it was made with, or else what the configuration says.
func (g *global) logFolder() (string, error) {
	if g.storagePath != "" {
		return g.storagePath, nil
	}
	c, err := g.load()
	if err != nil {
		return "", err
	}
	return c.Storage.Path, nil
}

func (g *global) inspect() (path string, o wal.Overview, err error) {
	if path, err = g.logFolder(); err != nil {
		return path, o, err
	}
	o, err = wal.Inspect(path)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("there is no log in %s; name its folder with --storage.path: %w", path, err)
	}
	return path, o, err
}

func addWALStats(app *kingpin.Application) (string, command) {
	cmd := walCommand(app).Command("stats", "Show sizes, segments, times, damage, and how far behind each endpoint is.")
	return cmd.FullCommand(), func(g *global) error {
		path, o, err := g.inspect()
		if err != nil {
			return err
		}
		return printStats(g.stdout, path, o)
	}
}

func printStats(w io.Writer, path string, o wal.Overview) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var start wal.Totals
	var oldest time.Time
	var problems []wal.SegmentInfo
	for _, s := range o.Segments {
		if s.Problem != "" {
			problems = append(problems, s)
		} else if oldest.IsZero() {
			start, oldest = s.Start, s.Created
		}
	}
	held := o.End.Sub(start)
	fmt.Fprintf(t, "folder\t%s\n", path)
	fmt.Fprintf(t, "size\t%d bytes\n", o.Bytes)
	fmt.Fprintf(t, "segments\t%d\n", len(o.Segments))
	fmt.Fprintf(t, "appended\t%s\n", counts(o.End))
	fmt.Fprintf(t, "held\t%s\n", counts(held))
	fmt.Fprintf(t, "oldest\t%s\n", when(oldest))
	fmt.Fprintf(t, "newest\t%s\n", when(o.Newest))
	fmt.Fprintf(t, "quarantine\t%d bytes in %d files\n", o.QuarantineBytes, o.QuarantinedFiles)
	if err := t.Flush(); err != nil {
		return err
	}
	if len(o.Cursors) > 0 {
		fmt.Fprintln(w)
		fmt.Fprintln(t, "ENDPOINT\tBACKLOG\tPASSED SEQ\tSEGMENT")
		for _, c := range o.Cursors {
			if c.Problem != "" {
				fmt.Fprintf(t, "%s\tnot known\t\t\n", c.Name)
				continue
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\n", c.Name, counts(backlog(o.End, c.Position.Totals)), c.Position.Seq, c.Position.Segment)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, c := range o.Cursors {
		if c.Problem != "" {
			fmt.Fprintf(w, "\ncursor %s: %s\n", c.Name, c.Problem)
		}
		if c.Orphan {
			fmt.Fprintf(w, "\ncursor %s: no endpoint has it, and it holds nothing back; a new endpoint takes it over with adopt_from: %s, or delete %s\n",
				c.Name, strconv.Quote(c.Name), c.Path)
		}
	}
	for _, s := range problems {
		fmt.Fprintf(w, "\nsegment %020d, %d bytes: %s\n", s.First, s.Bytes, s.Problem)
	}
	return nil
}

// backlog is what an endpoint has not passed. One that passed more than is
// written, as the agent goes on meanwhile, has none.
func backlog(end, passed wal.Totals) wal.Totals {
	return wal.Totals{
		Samples:    end.Samples - min(end.Samples, passed.Samples),
		Histograms: end.Histograms - min(end.Histograms, passed.Histograms),
		Exemplars:  end.Exemplars - min(end.Exemplars, passed.Exemplars),
	}
}

func counts(t wal.Totals) string {
	s := fmt.Sprintf("%d samples", t.Samples)
	if t.Histograms > 0 {
		s += fmt.Sprintf(", %d histograms", t.Histograms)
	}
	if t.Exemplars > 0 {
		s += fmt.Sprintf(", %d exemplars", t.Exemplars)
	}
	return s
}

func when(t time.Time) string {
	if t.IsZero() {
		return "nothing yet"
	}
	return t.Format(time.RFC3339)
}

func addWALVerify(app *kingpin.Application) (string, command) {
	cmd := walCommand(app).Command("verify", "Read everything and name what cannot be read; exit 1 if there is anything.")
	return cmd.FullCommand(), verify
}

func verify(g *global) error {
	path, o, err := g.inspect()
	if err != nil {
		return err
	}
	ctx, stop := interruptible(g)
	defer stop()
	r, err := wal.Read(path)
	if err != nil {
		return err
	}
	defer r.Close()
	places := 0
	r.OnDamage(func(d wal.Damage) {
		places++
		to := "its end"
		if d.To != math.MaxInt64 {
			to = strconv.FormatInt(d.To, 10)
		}
		fmt.Fprintf(g.stdout, "segment %020d: damaged from byte %d to %s\n", d.Segment, d.From, to)
		if d.Spare {
			fmt.Fprintln(g.stdout, "  which is its series table, or what a failed write has left: nothing is lost unless a frame of it is damaged too")
		}
	})
	var read, damaged, removed wal.Totals
	progress := newProgress(g.stderr, o)
	count := func(f *wal.Frame) error {
		read, damaged, removed = read.Add(f.Counts), damaged.Add(f.Damaged), removed.Add(f.Evicted)
		progress.at(f.Position, time.Now())
		return nil
	}
	err = eachFrame(ctx, r, count)
	if _, torn := r.Torn(); torn && err == nil {
		err = eachFrame(ctx, r, count) // it may have been written by now
	}
	progress.end()
	if err != nil {
		return err
	}
	if d, torn := r.Torn(); torn {
		places++
		fmt.Fprintf(g.stdout, "segment %020d: cannot be read from byte %d to its end\n", d.Segment, d.From)
		fmt.Fprintln(g.stdout, "  which the next start keeps in the quarantine; what of it had been synced is counted then")
	}
	for _, c := range o.Cursors {
		if c.Problem != "" {
			places++
			fmt.Fprintf(g.stdout, "cursor %s: %s\n", c.Name, c.Problem)
		}
	}
	for _, s := range o.Segments {
		if s.Problem != "" {
			fmt.Fprintf(g.stdout, "segment %020d: %s\n", s.First, s.Problem)
		}
	}
	fmt.Fprintf(g.stdout, "read %s in %d segments\n", counts(read), len(o.Segments))
	if !removed.IsZero() {
		fmt.Fprintf(g.stdout, "removed by the agent meanwhile: %s\n", counts(removed))
	}
	if places > 0 || !damaged.IsZero() {
		return fmt.Errorf("wal: %d places are damaged, %s are lost with them and counted by each endpoint; the agent goes on by itself", places, counts(damaged))
	}
	return nil
}

// eachFrame reads to the present end of the log.
func eachFrame(ctx context.Context, r *wal.Reader, each func(*wal.Frame) error) error {
	var f wal.Frame
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.Next(&f)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = each(&f)
		}
		if err != nil {
			return err
		}
	}
}

// progress shows on a terminal how far a long reading has come.
type progress struct {
	w      io.Writer // nil: nobody looks
	before map[uint64]int64
	total  int64
	shown  time.Time
	any    bool
}

func newProgress(w io.Writer, o wal.Overview) *progress {
	p := &progress{before: make(map[uint64]int64), shown: time.Now()}
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		p.w = w
	}
	for _, s := range o.Segments {
		p.before[s.First] = p.total
		p.total += s.Bytes
	}
	return p
}

// at is called often, and shows something once a second.
func (p *progress) at(place wal.Position, now time.Time) {
	if p.w == nil || now.Sub(p.shown) < time.Second {
		return
	}
	p.shown, p.any = now, true
	done := p.before[place.Segment] + place.Offset
	fmt.Fprintf(p.w, "\r%3d %% of %d MiB", min(100, 100*done/max(1, p.total)), p.total>>20)
}

func (p *progress) end() {
	if p.any {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

type dumpCommand struct {
	endpoint, metric, format string
	start, end               string
}

func addWALDump(app *kingpin.Application) (string, command) {
	cmd := walCommand(app).Command("dump", "Print what is in the log, oldest first: one line a sample, as metric{labels} value milliseconds, or as JSON.")
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
	return eachFrame(ctx, r, func(f *wal.Frame) error {
		if f.MaxT < from || f.MinT > to {
			return nil
		}
		wanted := func(s wal.SeriesEntry, t int64) bool {
			return t >= from && t <= to && (d.metric == "" || s.Labels.Get(model.MetricNameLabel) == d.metric)
		}
		for _, s := range f.Samples {
			if series := f.Series[s.Ref]; wanted(series, s.T) {
				out.print(series.Labels, strconv.FormatFloat(s.V, 'g', -1, 64), s.T)
			}
		}
		for _, h := range f.Histograms {
			if series := f.Series[h.Ref]; wanted(series, h.T) {
				out.print(series.Labels, h.H.String(), h.T)
			}
		}
		for _, h := range f.FloatHistograms {
			if series := f.Series[h.Ref]; wanted(series, h.T) {
				out.print(series.Labels, h.FH.String(), h.T)
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

func (p *printer) print(lset labels.Labels, value string, t int64) {
	switch {
	case p.err != nil:
	case p.json:
		p.err = json.NewEncoder(p.w).Encode(sample{Labels: lset, Value: value, Timestamp: float64(t) / 1000})
	default:
		_, p.err = fmt.Fprintf(p.w, "%s%s %s %d\n", lset.Get(model.MetricNameLabel), lset.MatchLabels(false, model.MetricNameLabel), value, t)
	}
}

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
