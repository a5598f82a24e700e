package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/mattn/go-isatty"

	"sql2metrics/wal"
)

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
	places, damagedIn := 0, make(map[uint64]bool)
	r.OnDamage(func(d wal.Damage) {
		places++
		damagedIn[d.Segment] = true
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
	err = eachFrame(ctx, r, o, count)
	if _, torn := r.Torn(); torn && err == nil {
		err = eachFrame(ctx, r, o, count) // it may have been written by now
	}
	progress.end()
	if err != nil {
		return err
	}
	if d, torn := r.Torn(); torn {
		places++
		damagedIn[d.Segment] = true
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
			if !damagedIn[s.First] {
				places++
			}
			fmt.Fprintf(g.stdout, "segment %020d: %s\n", s.First, s.Problem)
		}
	}
	fmt.Fprintf(g.stdout, "read %s in %d segments\n", counts(read), len(o.Segments))
	if !removed.IsZero() {
		fmt.Fprintf(g.stdout, "removed by the agent meanwhile: %s\n", counts(removed))
	}
	if places > 0 || !damaged.IsZero() {
		return fmt.Errorf("wal: %d places cannot be read, %s are lost with them and counted by each endpoint; the agent goes on by itself", places, counts(damaged))
	}
	return nil
}

// eachFrame reads to the end that the log had when it was looked at: an agent
// that writes meanwhile may be faster.
func eachFrame(ctx context.Context, r *wal.Reader, o wal.Overview, each func(*wal.Frame) error) error {
	var f wal.Frame
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.Next(&f)
		if errors.Is(err, io.EOF) || err == nil && f.Position.Seq > o.NewestSeq {
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
	if isTerminal(w) {
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

func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(f.Fd())
}
