package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/wal"
)

// settledAfter is how long a sample that was appended and received is kept to
// recognise duplicates, in milliseconds of sample time.
const settledAfter = 10 * 60 * 1000

// ledger compares what the log acknowledged with what the receiver got,
// sample by sample. Any goroutine may use it.
type ledger struct {
	mu     sync.Mutex
	series map[string]*account
	newest int64 // sample time
	totals tally
}

// account is the part of the ledger of one series: its samples by time.
type account struct {
	samples map[int64]entry
}

type entry struct {
	appended, received int
	conflict           bool // two values for one time
	bits               uint64
}

// tally is a ledger in numbers of samples.
type tally struct {
	appended, received, lost, duplicated, invented, conflicting int
}

func newLedger() *ledger { return &ledger{series: map[string]*account{}} }

func (l *ledger) appended(series string, t int64, v float64) {
	l.record(series, t, v, func(e *entry) { e.appended++ })
}

func (l *ledger) received(series string, t int64, v float64) {
	l.record(series, t, v, func(e *entry) { e.received++ })
}

func (l *ledger) record(series string, t int64, v float64, count func(*entry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.series[series]
	if a == nil {
		a = &account{samples: map[int64]entry{}}
		l.series[series] = a
	}
	e, known := a.samples[t]
	bits := math.Float64bits(v)
	if !known {
		e.bits = bits
	}
	e.conflict = e.conflict || e.bits != bits
	count(&e)
	a.samples[t] = e
	l.newest = max(l.newest, t)
}

// settle takes samples that are long accounted for out of memory.
func (l *ledger) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.series {
		for t, e := range a.samples {
			if t < l.newest-settledAfter && e.appended > 0 && e.received > 0 {
				l.totals.add(e)
				delete(a.samples, t)
			}
		}
	}
}

func (t *tally) add(e entry) {
	t.appended += e.appended
	t.received += e.received
	switch {
	case e.received == 0:
		t.lost += e.appended
	case e.appended == 0:
		t.invented++
	default:
		t.duplicated += e.received - 1
	}
	if e.conflict {
		t.conflicting++
	}
}

// sum returns the whole ledger, and the series of which samples are missing.
func (l *ledger) sum() (all tally, missing map[string]tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all = l.totals
	missing = map[string]tally{}
	for name, a := range l.series {
		var t tally
		for _, e := range a.samples {
			t.add(e)
			all.add(e)
		}
		if t.lost > 0 {
			missing[name] = t
		}
	}
	return all, missing
}

func (l *ledger) print(w io.Writer) (tally, error) {
	all, missing := l.sum()
	fmt.Fprintf(w, "\nledger, in samples\n")
	fmt.Fprintf(w, "  appended   %d   acknowledged by the log\n", all.appended)
	fmt.Fprintf(w, "  received   %d\n", all.received)
	fmt.Fprintf(w, "  lost %d\n", all.lost)
	fmt.Fprintf(w, "  duplicated %d   sent again because the answer was lost\n", all.duplicated)
	var err error
	if all.invented > 0 || all.conflicting > 0 {
		err = fmt.Errorf("demo: %d samples received that were never appended, %d with two values for one time", all.invented, all.conflicting)
	}
	names := make([]string, 0, len(missing))
	for name := range missing {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(w, "    lost %d of %d: %s\n", missing[name].lost, missing[name].appended, name)
	}
	return all, err
}

// follower copies what the log acknowledges into the ledger. It reads the
// folder beside the agent, without its lock.
type follower struct {
	ledger *ledger
	reader *wal.Reader
	frame  wal.Frame
}

// read takes in all frames there are now.
func (f *follower) read() error {
	for {
		err := f.reader.Next(&f.frame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the agent's log: %w", err)
		}
		for _, s := range f.frame.Samples {
			f.ledger.appended(f.frame.Series[s.Ref].Labels.String(), s.T, s.V)
		}
	}
}

// withoutExternal drops the label that the demo's configuration adds at send
// time, so that both sides of the ledger name a series alike.
func withoutExternal(lset labels.Labels) string {
	return labels.NewBuilder(lset).Del(demoExternalLabel).Labels().String()
}
