package remotewrite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// Options shape a [Shipper]. All of them are needed unless said otherwise.
type Options struct {
	Endpoint       config.RemoteWrite
	ExternalLabels labels.Labels
	Log            *wal.Log
	Logger         *slog.Logger
	UserAgent      string                // name/version
	Registerer     prometheus.Registerer // nil: no metrics. The label endpoint is added here.
	DeadLetter     *DeadLetter           // shared by all endpoints; nil: what is refused is counted and gone
	Random         func() float64        // for jitter, in [0, 1); nil: math/rand
}

// idle is how long the loop rests when the log has nothing new.
const idle = time.Minute

// Shipper sends what is appended to the log to one endpoint, at least once and
// in order per series, and keeps account of it.
//
// Step, Run, Flush and Close are for one goroutine at a time; Ledger, Status and
// Overdue are for any.
type Shipper struct {
	endpoint config.RemoteWrite
	log      *wal.Log
	logger   *slog.Logger
	client   *client
	metrics  *metrics

	cursor *wal.Cursor
	reader *wal.Reader
	frame  wal.Frame
	held   bool // frame is read and belongs to the next window

	table   *table
	window  window
	ready   bool      // window is cut and saved; its requests may be sent
	resumed *inFlight // what a process before this one was sending; nil once it is taken up
	outcome outcome   // of the answered requests of window
	flights []*flight
	encoder encoder
	message []byte // scratch: the request that was encoded last
	block   []byte // scratch: message as snappy block

	metadata   metadataSender
	deadLetter *DeadLetter
	letter     []byte // scratch

	position wal.Position // all before it is booked
	books    books
	learned  learned
	unsaved  bool                       // position, books, learned or outcome
	shapes   map[config.Protocol]string // see shape
	doubtful uint64                     // everything up to this sequence number may have been sent by a run whose cursor is lost

	pace       pace
	grown      int                      // requests accepted since learned.Limit changed
	declined   map[config.Protocol]bool // by the endpoint, since it last took something
	said       string                   // fault that the endpoint was last logged for
	rejecting  bool                     // the receiver refuses samples, and that has been said
	repeating  bool                     // it refuses what it may have already, and that has been said
	rejectedAt time.Time                // when it last did
	bare       bool                     // it has been said that the receiver does not store exemplars
	trusted    bool                     // it has declined 1.0 since it ceased to say what it wrote of 2.0
	uncounted  bool                     // it has been said, since the endpoint came up, that 2.0 is answered without Written headers

	turns  turns
	mu     sync.Mutex
	public public
	health health
}

// New opens the cursor of the endpoint and prepares to ship. An endpoint the
// log has not seen before begins where its start_at says. Nothing is sent yet.
func New(o Options) (*Shipper, error) {
	client, err := newClient(o.Endpoint, o.UserAgent)
	if err != nil {
		return nil, err
	}
	start := wal.StartEnd
	if o.Endpoint.StartAt == config.StartAtOldest {
		start = wal.StartOldest
	}
	cursor, err := o.Log.Cursor(o.Endpoint.Name, start)
	if err != nil {
		return nil, fmt.Errorf("open cursor: %w", err)
	}
	random := o.Random
	if random == nil {
		random = rand.Float64
	}
	q := o.Endpoint.Queue
	s := &Shipper{
		endpoint:   o.Endpoint,
		log:        o.Log,
		logger:     o.Logger.With("endpoint", o.Endpoint.Name),
		client:     client,
		cursor:     cursor,
		table:      newTable(o.ExternalLabels, o.Endpoint.WriteRelabel),
		deadLetter: o.DeadLetter,
		position:   cursor.Position(),
		turns:      turns{begun: time.Now()},
		pace:       newPace(q.MaxShards, q.MinBackoff, q.MaxBackoff, random),
		declined:   map[config.Protocol]bool{},
		shapes: map[config.Protocol]string{
			config.ProtocolV1: shape(o.Endpoint, o.ExternalLabels, config.ProtocolV1),
			config.ProtocolV2: shape(o.Endpoint, o.ExternalLabels, config.ProtocolV2),
		},
	}
	for range q.MaxShards {
		s.flights = append(s.flights, &flight{request: none})
	}
	s.health = health{state: EndpointUnknown, since: s.turns.begun}
	s.restore(cursor.State())
	s.window.without = without{exemplars: !o.Endpoint.SendExemplars, histograms: !o.Endpoint.SendNativeHistograms}
	s.window.reset(s.table)
	s.bookGone()
	s.keepDoubt()
	s.reader = o.Log.Reader(s.position)
	s.pace.throttle.configured = float64(q.MaxSamplesPerSecond)
	s.peek()
	s.publish()
	if s.metrics, err = newMetrics(s, o.Registerer); err != nil {
		return nil, errors.Join(fmt.Errorf("register metrics: %w", err), s.Close())
	}
	s.metadata = metadataSender{MetadataConfig: o.Endpoint.MetadataConfig, client: client, metrics: s.metrics}
	return s, nil
}

// Name returns the endpoint's name, which is its cursor's.
func (s *Shipper) Name() string { return s.endpoint.Name }

// Close takes the metrics down and gives the cursor back, so that the log holds
// nothing for this endpoint any more. To keep what is not sent for the next
// start, close the log first: it closes the cursors of all endpoints together.
func (s *Shipper) Close() error {
	s.metadata.stop()
	s.metrics.unregister()
	s.client.http.CloseIdleConnections()
	return errors.Join(s.reader.Close(), s.cursor.Close())
}

// Step makes one step: it fills a window, or takes up the one at hand, sends
// what is not answered yet, and moves the cursor when everything is. It
// returns how long the loop may rest before the next one, counted from its
// return: zero if there is more to do. Unless something waits for the endpoint
// to be left alone, the rest also ends when Log.Changed says so.
//
// Trouble with the endpoint is not an error of Step; trouble with the log is.
// When ctx ends, the requests in flight are aborted, and go first next time.
func (s *Shipper) Step(ctx context.Context, now time.Time) (time.Duration, error) {
	return s.step(ctx, now, s.endpoint.Queue.BatchSendDeadline)
}

func (s *Shipper) step(ctx context.Context, now time.Time, deadline time.Duration) (time.Duration, error) {
	s.turns.turn()
	s.deadLetter.look(now)
	s.pace.throttle.observe(now, s.log.Stats().Appended.Samples)
	if d := s.pace.rest(now); d > 0 {
		return d, s.look()
	}
	if !s.ready {
		if rest, err := s.advance(now, deadline); err != nil || !s.ready {
			return rest, err
		}
	} else if err := s.leaveEvicted(); err != nil {
		return s.endpoint.Queue.MinBackoff, err
	}
	if err := s.send(ctx, now); err != nil {
		return s.endpoint.Queue.MinBackoff, err
	}
	if s.window.unanswered() != none {
		return s.pace.rest(now), nil
	}
	s.settle(now)
	return s.advance(now, deadline)
}

// takesAll is for how long a receiver has taken everything before that is said:
// as long as a series that it refuses travels alone, since one that goes in
// every other window does not make it well and ill in turn.
const takesAll = aloneFor

// settle books the window and makes room for the next one. The books are
// saved with that one, so that the cursor is written once.
func (s *Shipper) settle(now time.Time) {
	s.books.close(&s.window, s.outcome)
	switch {
	case !s.outcome.whole():
		s.rejectedAt = now
	case (s.rejecting || s.repeating) && now.Sub(s.rejectedAt) >= takesAll:
		s.rejecting, s.repeating = false, false
		s.logger.Info("the receiver takes everything again")
	}
	s.pace.settled()
	s.position = s.window.end
	s.outcome = outcome{}
	s.window.reset(s.table)
	s.ready = false
	s.unsaved = true
}

// advance reads frames into the window. When that fills it, it is cut and
// saved, so that it is ready to be sent, and there is no rest.
func (s *Shipper) advance(now time.Time, deadline time.Duration) (rest time.Duration, err error) {
	if !s.window.closed {
		s.forgetProtocol(now)
		s.startReading()
		if err := s.leaveEvicted(); err != nil {
			return s.endpoint.Queue.MinBackoff, err
		}
		var full bool
		if rest, full, err = s.fill(now, deadline); err != nil {
			return s.endpoint.Queue.MinBackoff, err
		}
		if full {
			s.window.cut(s.cutting(now))
			s.takeUp(now)
		}
	}
	if s.window.closed || s.unsaved {
		if err := s.save(); err != nil {
			return s.endpoint.Queue.MinBackoff, err
		}
	}
	if s.window.closed {
		// What may be sent from here on is known after power loss too, so that
		// it goes first and alone again.
		if err := s.cursor.Sync(); err != nil {
			return s.endpoint.Queue.MinBackoff, err
		}
	}
	s.ready = s.window.closed
	s.publish()
	return rest, nil
}

// cutting is how the window is to be cut: as it was before a restart, or as
// things are now.
func (s *Shipper) cutting(now time.Time) cutting {
	if r := s.resumed; r != nil && r.Shape == s.shape() && r.Limit > 0 {
		return r.cutting
	}
	c := cutting{Limit: s.limit(), Alone: s.window.lonely(now.UnixMilli())}
	if limit := s.endpoint.Queue.SampleAgeLimit; limit > 0 {
		c.TooOld = now.Add(-limit).UnixMilli()
	}
	return c
}

// protocolLasts is for how long the protocol that was found is spoken before
// the one the configuration begins with is tried again.
const protocolLasts = 24 * time.Hour

// forgetProtocol has the first protocol tried anew when its time has come. It
// is for the time between two windows.
func (s *Shipper) forgetProtocol(now time.Time) {
	if s.learned.Protocol == config.ProtocolAuto || s.resumed != nil || s.window.frames > 0 ||
		now.Sub(time.UnixMilli(s.learned.At)) < protocolLasts {
		return
	}
	s.learned.Protocol, s.learned.At, s.unsaved = config.ProtocolAuto, 0, true
}

func (s *Shipper) shape() string { return s.shapes[s.protocol()] }

// protocol is what is spoken with the endpoint at present.
func (s *Shipper) protocol() config.Protocol {
	switch {
	case s.endpoint.Protocol != config.ProtocolAuto:
		return s.endpoint.Protocol
	case s.learned.Protocol != config.ProtocolAuto:
		return s.learned.Protocol
	}
	return config.ProtocolV2
}
