package remotewrite

import (
	"maps"
	"time"

	"sql2metrics/wal"
)

// Reason says why something that was appended will never be at the receiver.
type Reason string

// The reasons. The list is closed: nothing is dropped for another one.
const (
	// ReasonRelabel: write_relabel_configs drop the series, or leave it without labels.
	ReasonRelabel Reason = "relabel"
	// ReasonDuplicate: external labels and relabelling made two series one,
	// and both had a sample for the same time in one window. The first in the
	// log was kept.
	ReasonDuplicate Reason = "duplicate"
	// ReasonLoneExemplar: an exemplar whose series has no sample in the
	// window, which the protocol does not allow.
	ReasonLoneExemplar Reason = "lone_exemplar"
	// ReasonEvicted: removed from the log to keep storage.max_bytes before it
	// could be sent.
	ReasonEvicted Reason = "evicted"
	// ReasonDamaged: unreadable in the log.
	ReasonDamaged Reason = "damaged"
	// ReasonDisabled: a kind that send_exemplars or send_native_histograms
	// keeps back.
	ReasonDisabled Reason = "disabled"
	// ReasonUnsupported: a native histogram with custom buckets, which remote
	// write 1.0 cannot carry.
	ReasonUnsupported Reason = "unsupported"
	// ReasonTooOld: older than queue_config.sample_age_limit before it could
	// be sent.
	ReasonTooOld Reason = "too_old"
	// ReasonRejected: the receiver refused it for good, and cannot have it
	// from an earlier attempt.
	ReasonRejected Reason = "rejected"
	// ReasonTooLarge: one sample or histogram that the receiver finds too large.
	ReasonTooLarge Reason = "too_large"
	// ReasonIsolationLimit: in a request that the receiver refused, and not
	// tried alone because too many others had to be. The receiver may have it.
	ReasonIsolationLimit Reason = "isolation_limit"
	// ReasonMaxBlock: given up after max_block without a final answer. The
	// receiver may have it.
	ReasonMaxBlock Reason = "max_block"
)

// reasons are all of them, for metrics that begin at zero.
var reasons = []Reason{
	ReasonRelabel, ReasonDuplicate, ReasonLoneExemplar, ReasonEvicted, ReasonDamaged,
	ReasonDisabled, ReasonUnsupported, ReasonTooOld,
	ReasonRejected, ReasonTooLarge, ReasonIsolationLimit, ReasonMaxBlock,
}

// Ledger accounts for everything appended to the log since the endpoint's
// cursor began. It is one consistent snapshot, in which for each kind
//
//	Appended = Sent + sum(Dropped) + Unconfirmed + Pending
//
// Except for Pending, no number in it ever goes down, across restarts and
// kills too.
type Ledger struct {
	Appended    wal.Totals
	Sent        wal.Totals            // accepted by the receiver
	Dropped     map[Reason]wal.Totals // will not be sent
	Unconfirmed wal.Totals            // refused, but an earlier attempt may have stored it
	Pending     wal.Totals            // neither yet; a window counts as pending until all of it is answered

	// PendingBytes is how much of the log on disk lies behind the endpoint's
	// acknowledged position: frames, and the headers and series tables of
	// segments between them. It is zero if nothing is pending.
	PendingBytes int64

	Oldest   time.Time // time of append of the oldest pending frame known; zero if none is
	Protocol string    // spoken with the endpoint: 1.0 or 2.0
}

// Age returns for how long the oldest pending sample has waited at now, by its
// time of append; zero if none is pending.
func (l *Ledger) Age(now time.Time) time.Duration {
	if l.Oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(l.Oldest))
}

// books are the counters that are saved with the cursor.
type books struct {
	base        wal.Totals // of the log where the cursor began
	sent        wal.Totals
	dropped     map[Reason]wal.Totals
	unconfirmed wal.Totals
}

func (b *books) clone() books {
	c := *b
	c.dropped = maps.Clone(b.dropped)
	return c
}

func (b *books) drop(r Reason, n wal.Totals) {
	if !n.IsZero() {
		b.dropped[r] = b.dropped[r].Add(n)
	}
}

// outcome counts what became of what is answered. That of a window goes into
// the books when the window is done.
type outcome struct {
	sent, unconfirmed wal.Totals
	dropped           map[Reason]wal.Totals
}

func (o *outcome) drop(r Reason, n wal.Totals) {
	if n.IsZero() {
		return
	}
	if o.dropped == nil {
		o.dropped = map[Reason]wal.Totals{}
	}
	o.dropped[r] = o.dropped[r].Add(n)
}

func (o *outcome) add(p outcome) {
	o.sent = o.sent.Add(p.sent)
	o.unconfirmed = o.unconfirmed.Add(p.unconfirmed)
	for r, n := range p.dropped {
		o.drop(r, n)
	}
}

func (o *outcome) total() wal.Totals {
	n := o.sent.Add(o.unconfirmed)
	for _, d := range o.dropped {
		n = n.Add(d)
	}
	return n
}

// whole tells whether the receiver has taken every sample and histogram that it
// could be sent.
func (o *outcome) whole() bool {
	lost := o.unconfirmed
	for r, n := range o.dropped {
		if r != ReasonUnsupported {
			lost = lost.Add(n)
		}
	}
	return lost.Samples == 0 && lost.Histograms == 0
}

// close books a window of which every request is answered.
func (b *books) close(w *window, o outcome) {
	b.sent = b.sent.Add(o.sent)
	b.unconfirmed = b.unconfirmed.Add(o.unconfirmed)
	for r, n := range o.dropped {
		b.drop(r, n)
	}
	for r, n := range w.dropped {
		b.drop(r, n)
	}
}

// public is what Ledger shows of a shipper: a copy, replaced as a whole.
type public struct {
	books    books
	acked    wal.Position // all before it is in the books
	passed   wal.Totals   // totals of the log where the reader stands
	evicted  wal.Totals   // of that, not in the books yet
	oldest   int64        // Unix milliseconds; 0: no window
	protocol string

	// While the reader moves, passed is behind it, and what the log has
	// removed meanwhile cannot be told from what has just been read. The
	// number of before stands until the reader rests.
	reading bool
	ahead   wal.Totals // removed from the log in front of the reader
	// known was answered of the window that is to be taken up again. What the
	// log has removed of it may be that, so it counts as pending until it is
	// booked.
	known wal.Totals
}

// Ledger returns the accounts as they are saved. It may be called from any
// goroutine and does no I/O.
func (s *Shipper) Ledger() Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger()
}

// ledger is Ledger for who has s.mu.
func (s *Shipper) ledger() Ledger {
	stats := s.log.Stats()
	p := &s.public
	if !p.reading {
		p.ahead = minus(stats.Oldest.Totals, p.passed)
	}
	l := Ledger{
		Appended:    minus(stats.Appended, p.books.base),
		Sent:        p.books.sent,
		Dropped:     make(map[Reason]wal.Totals, len(reasons)),
		Unconfirmed: p.books.unconfirmed,
		Protocol:    p.protocol,

		PendingBytes: stats.BytesAfter(p.acked),
	}
	for _, r := range reasons {
		l.Dropped[r] = p.books.dropped[r]
	}
	l.Dropped[ReasonEvicted] = l.Dropped[ReasonEvicted].Add(p.evicted).Add(minus(p.ahead, p.known))

	l.Pending = minus(minus(l.Appended, l.Sent), l.Unconfirmed)
	for _, n := range l.Dropped {
		l.Pending = minus(l.Pending, n)
	}
	if p.oldest != 0 {
		l.Oldest = time.UnixMilli(p.oldest)
	}
	return l
}

// startReading holds the ledger still until publish.
func (s *Shipper) startReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.public.reading = true
}

// publish makes the books and the place of the reader what Ledger shows. It is
// called only when they are what is saved.
func (s *Shipper) publish() {
	p := public{
		books:    s.books.clone(),
		acked:    s.position,
		protocol: wireVersion(s.protocol()),
	}
	passed, evicted := s.passed()
	p.passed, p.evicted = passed.Totals, evicted
	switch {
	case s.window.frames > 0:
		p.oldest = s.window.oldest
	case s.held:
		p.oldest = s.frame.AppendedAt
	}
	if s.resumed != nil {
		o := s.resumed.known()
		p.known = o.total()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.public = p
}

// minus is a - b, and zero where b is more.
func minus(a, b wal.Totals) wal.Totals {
	return wal.Totals{
		Samples:    a.Samples - min(a.Samples, b.Samples),
		Histograms: a.Histograms - min(a.Histograms, b.Histograms),
		Exemplars:  a.Exemplars - min(a.Exemplars, b.Exemplars),
	}
}

// least is the smaller of each.
func least(a, b wal.Totals) wal.Totals {
	return wal.Totals{
		Samples:    min(a.Samples, b.Samples),
		Histograms: min(a.Histograms, b.Histograms),
		Exemplars:  min(a.Exemplars, b.Exemplars),
	}
}
