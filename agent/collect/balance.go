package collect

import (
	"cmp"
	"maps"
	"slices"

	"sql2metrics/wal"
)

// Balance is what all workers of an agent and their log have done since the
// start, at one moment: no round is in it by half. That it adds up is proof
// that what was collected is in the log or counted.
type Balance struct {
	Workers []WorkerBalance `json:"workers"` // by source, collector and query; what a reload has removed comes last
	Log     LogBalance      `json:"log"`
}

// WorkerBalance is what one worker has done. Native histograms are among the
// samples.
type WorkerBalance struct {
	Source    string `json:"source,omitempty"`
	Collector string `json:"collector,omitempty"`
	// Query is that of the configuration; without a Collector it is scrape, up,
	// self, or removed, for all workers that a reload has removed.
	Query string `json:"query"`

	Rows      uint64            `json:"rows"`
	Cells     uint64            `json:"cells"`
	Used      uint64            `json:"used"`
	Refused   map[string]uint64 `json:"refused"` // cells, by those reasons that occurred
	Discarded uint64            `json:"discarded"`

	Mapped   uint64 `json:"mapped"`
	Stale    uint64 `json:"stale_markers"`
	Resent   uint64 `json:"resent"`
	Appended uint64 `json:"appended"`
	Late     uint64 `json:"refused_time"`      // by the log
	TooLarge uint64 `json:"refused_too_large"` // likewise
	Kept     uint64 `json:"kept"`
	Lost     uint64 `json:"lost"`

	OnPage int `json:"on_page"` // series that /metrics has to show just now
}

// ReadsRows tells whether the samples come from rows, so that there are cells.
func (w *WorkerBalance) ReadsRows() bool { return bookName{w.Source, w.Collector, w.Query}.readsRows() }

// CellsOff returns by how much cells = used + refused + discarded is off.
func (w *WorkerBalance) CellsOff() int64 {
	off := int64(w.Cells - w.Used - w.Discarded)
	for n := range maps.Values(w.Refused) {
		off -= int64(n)
	}
	return off
}

// RefusedByLog counts the samples that the log refused, for whatever reason.
func (w *WorkerBalance) RefusedByLog() uint64 { return w.Late + w.TooLarge }

// SamplesOff returns by how much mapped + stale + resent = appended + refused
// by the log + kept + lost is off.
func (w *WorkerBalance) SamplesOff() int64 {
	return int64(w.Mapped + w.Stale + w.Resent - w.Appended - w.RefusedByLog() - w.Kept - w.Lost)
}

// LogBalance is what became of all that was handed to the log since the start,
// as the log has it, and what the workers say they have handed over.
type LogBalance struct {
	Handed   wal.Totals `json:"handed"`   // by all workers
	TakenUp  wal.Totals `json:"taken_up"` // by the log itself, from segments that an older version had set aside
	Appended wal.Totals `json:"appended"`
	Refused  wal.Totals `json:"refused"`
	Waiting  wal.Totals `json:"waiting"`
	Lost     wal.Totals `json:"lost"`
}

// Off returns by how much handed + taken up = appended + refused + waiting +
// lost is off, for all kinds together.
func (l *LogBalance) Off() int64 {
	return l.Handed.Add(l.TakenUp).Apart(l.Appended.Add(l.Refused).Add(l.Waiting).Add(l.Lost))
}

// Balance may be called by any goroutine, and waits for nobody.
func (m *Metrics) Balance() (all Balance) {
	books, log := m.books.look()
	for i := range books {
		b := &books[i]
		w := WorkerBalance{
			Source: b.source, Collector: b.collector, Query: b.query,
			Rows: b.rows, Cells: b.cells, Used: b.used, Discarded: b.discarded, Refused: map[string]uint64{},
			Mapped: b.mapped, Stale: b.stale, Resent: b.resent,
			Appended: both(b.appended), Late: b.refused[refusedTime], TooLarge: b.refused[refusedTooLarge],
			Kept: both(b.kept), Lost: both(b.lost),
			OnPage: b.onPage,
		}
		for why, n := range b.refused {
			if n > 0 && !reason(why).byLog() {
				w.Refused[reason(why).String()] = n
			}
		}
		all.Workers = append(all.Workers, w)
		all.Log.Handed = all.Log.Handed.Add(b.handed)
	}
	all.Log.TakenUp = log.TakenUp
	all.Log.Appended, all.Log.Refused = log.Appended.Sub(log.Opened), log.Refused
	all.Log.Waiting, all.Log.Lost = log.Waiting, log.Lost.NoSpace.Add(log.Lost.DiskError)
	return all
}

// look returns what is in the books and in the log at one moment: nothing
// before the first worker.
func (b *books) look() (all []balanced, log wal.Stats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.log == nil {
		return nil, log
	}
	open := slices.SortedFunc(maps.Values(b.all), func(x, y *book) int {
		return cmp.Or(cmp.Compare(x.source, y.source), cmp.Compare(x.collector, y.collector), cmp.Compare(x.query, y.query))
	})
	if b.gone != nil {
		open = append(open, b.gone)
	}
	all = make([]balanced, len(open))
	for i, k := range open {
		all[i].bookName = k.bookName
		for _, v := range k.users {
			all[i].onPage += v.onPage()
		}
	}
	b.log.Audit(func(s wal.Stats) {
		log = s
		for i, k := range open {
			all[i].counts = k.counts
		}
	})
	return all, log
}

// balanced is what a book has at one moment.
type balanced struct {
	bookName
	counts
	onPage int // series
}
