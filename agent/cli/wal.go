package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

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
	var oldest time.Time
	var problems []wal.SegmentInfo
	for _, s := range o.Segments {
		if s.Problem != "" {
			problems = append(problems, s)
		} else if oldest.IsZero() {
			oldest = s.Created
		}
	}
	fmt.Fprintf(t, "folder\t%s\n", path)
	fmt.Fprintf(t, "size\t%d bytes\n", o.Bytes)
	fmt.Fprintf(t, "segments\t%d\n", len(o.Segments))
	fmt.Fprintf(t, "appended\t%s\n", counts(o.End))
	fmt.Fprintf(t, "held\t%s\n", counts(backlog(o.End, o.Start)))
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
	if o.Unlisted != "" {
		fmt.Fprintf(w, "\nsize is without a part that cannot be listed: %s\n", o.Unlisted)
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
