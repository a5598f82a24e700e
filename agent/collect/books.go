package collect

import (
	"slices"
	"sync"
	"time"

	"sql2metrics/wal"
)

// counts are what a worker has done, from the rows it has read to what the log
// says of its samples. Of every worker, at any moment,
//
//	cells = used + refused{reason} + discarded, those refused by the log left out
//	mapped + stale + resent = appended + refused by the log + kept + lost
//
// where the right side of the second is handed, as the log has counted it.
type counts struct {
	rows      uint64
	cells     uint64          // what metrics looked for in them
	used      uint64          // cells that are, or are a part of, a sample
	refused   [reasons]uint64 // cells; by the log, samples
	discarded uint64          // cells of a result that failed, or came too late

	mapped uint64 // samples and native histograms made of rows
	stale  uint64 // markers
	resent uint64 // of an earlier result

	handed   wal.Totals // given to the log
	appended wal.Totals // in the log when it answered
	late     wal.Totals // refused by it
	kept     wal.Totals // could not be written and waited in memory; the log knows what became of them
	lost     wal.Totals // could not be written, and were too much to wait
}

func (c *counts) add(o *counts) {
	c.rows += o.rows
	c.cells += o.cells
	c.used += o.used
	for why := range o.refused {
		c.refused[why] += o.refused[why]
	}
	c.discarded += o.discarded
	c.mapped += o.mapped
	c.stale += o.stale
	c.resent += o.resent
	c.handed = c.handed.Add(o.handed)
	c.appended = c.appended.Add(o.appended)
	c.late = c.late.Add(o.late)
	c.kept = c.kept.Add(o.kept)
	c.lost = c.lost.Add(o.lost)
}

// books have a book for each worker of an agent. Rounds enter a book in the
// moment in which the log shows them, and whoever reads the books does so in
// an audit of the log: no round is seen by half, nor by one and not the other.
type books struct {
	mu   sync.Mutex
	log  *wal.Log // nil before the first worker
	all  map[bookName]*book
	gone *book // what was in books that are closed; nil: none was
}

type bookName struct{ source, collector, query string }

// Names of books that are not of queries. Those of queries have a collector.
const (
	bookScrape  = "scrape"
	bookUp      = "up"
	bookSelf    = "self"
	bookRemoved = "removed"  // of all that a reload has removed
	bookTakenUp = "taken_up" // by the log itself, from segments that an older version had set aside
)

// readsRows tells whether the book is of a worker whose samples come from rows.
func (n bookName) readsRows() bool {
	return n.collector != "" || n.query == bookScrape || n.query == bookRemoved
}

// book is what one worker, and in a reload those before it, have done.
type book struct {
	bookName
	of     *books
	counts counts    // guarded by the log, see wal.Log.Audit
	next   *book     // likewise: where it goes on once it is closed
	users  []*values // guarded by books.mu; nil ones are of workers without values
}

// open returns the book of that name, for as many workers as call it, until
// each has called close with its values.
func (b *books) open(log *wal.Log, name bookName, user *values) *book {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = log
	k := b.all[name]
	if k == nil {
		k = &book{bookName: name, of: b}
		b.all[name] = k
	}
	k.users = append(k.users, user)
	return k
}

// close takes a user away. What is entered after the last one has gone is in
// the book of all that is removed.
func (k *book) close(user *values) {
	if k == nil {
		return
	}
	b := k.of
	b.mu.Lock()
	defer b.mu.Unlock()
	if at := slices.Index(k.users, user); at >= 0 {
		k.users = slices.Delete(k.users, at, at+1)
	}
	if len(k.users) > 0 || b.all[k.bookName] != k {
		return
	}
	if b.gone == nil {
		b.gone = &book{bookName: bookName{query: bookRemoved}}
	}
	b.log.Audit(func(wal.Stats) {
		b.gone.enter(&k.counts)
		k.next = b.gone
	})
	delete(b.all, k.bookName)
}

// enter is called with the log's figures standing still.
func (k *book) enter(c *counts) {
	if k == nil {
		return
	}
	if k.next != nil {
		k = k.next
	}
	k.counts.add(c)
}

// entry is what there is to enter into a book of one round. It belongs to
// whoever appends the round.
type entry struct {
	book *book // nil: nobody counts
	counts
	booked func(wal.Appended)
}

// append appends a round, and enters what becomes of it and what the entry has
// so far.
func (e *entry) append(log *wal.Log, r *wal.Round, now time.Time) (wal.Appended, error) {
	if e.booked == nil {
		e.booked = e.enter
	}
	e.handed = r.Totals()
	r.Booked = e.booked
	appended, err := log.Append(r, now)
	e.counts = counts{}
	return appended, err
}

// enter is called with the log's figures standing still.
func (e *entry) enter(a wal.Appended) {
	e.appended, e.late, e.kept = a.Appended, a.Refused, a.Kept
	e.lost = e.handed.Sub(a.Appended).Sub(a.Refused).Sub(a.Kept)
	e.refused[refusedTime] += both(a.Refused.Sub(a.Unfit))
	e.refused[refusedTooLarge] += both(a.Unfit)
	e.book.enter(&e.counts)
}

// discard enters that of a round which is not appended.
func (e *entry) discard(log *wal.Log) {
	if e.counts == (counts{}) {
		return
	}
	e.discarded, e.used = e.discarded+e.used, 0
	log.Audit(func(wal.Stats) { e.book.enter(&e.counts) })
	e.counts = counts{}
}

// both are samples and native histograms: what a cell can become.
func both(t wal.Totals) uint64 { return t.Samples + t.Histograms }
