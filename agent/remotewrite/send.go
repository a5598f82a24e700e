package remotewrite

import (
	"context"
	"errors"
	"time"

	"github.com/klauspost/compress/s2"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// flight carries one request of the window to the endpoint. It keeps the
// request, and its bytes for the next attempt, until there is a final answer.
type flight struct {
	request  int // index in the window, or none
	inFlight bool

	protocol config.Protocol // of body
	body     []byte          // the encoded request as snappy block
	answer   answer
	took     time.Duration
}

const none = -1

// errNothingGoes keeps a defect of board from spinning unseen.
var errNothingGoes = errors.New("send window: none of its requests can go, and nothing says why; this is a defect of sql2metrics, report it and restart")

// send sends the requests of the window that have no final answer. It ends
// when all have one, when the endpoint has to be left alone for a while, when
// ctx ends, and with an error when an answer cannot be saved.
func (s *Shipper) send(ctx context.Context, now time.Time) (err error) {
	if s.unsaved {
		if err := s.save(); err != nil {
			return err
		}
	}
	s.pace.throttle.behind = now.Sub(time.UnixMilli(s.window.oldest)) > 2*s.endpoint.Queue.BatchSendDeadline+10*time.Second
	if !s.health.state.troubled() && s.protocol() == config.ProtocolV1 {
		s.metadata.send(ctx, now, s.table.families)
	}
	landed := make(chan *flight, len(s.flights))
	flying, sent := 0, false
	var trouble verdict // the worst so far
	var asked time.Duration
	for {
		for trouble == accepted && err == nil && ctx.Err() == nil && flying < s.pace.limit && s.pace.rest(now) == 0 {
			f := s.board(now)
			if f == nil {
				break
			}
			flying++
			f.inFlight, sent = true, true
			go func() {
				s.fly(ctx, f)
				landed <- f
			}()
		}
		if flying == 0 {
			break
		}
		f := <-landed
		s.turns.turn()
		flying--
		f.inFlight = false
		if ctx.Err() != nil && f.answer.err != nil {
			s.window.requests[f.request].next().doubt = true
			continue
		}
		v := s.land(f, now)
		if v == unavailable || v == misconfigured {
			trouble = max(trouble, v)
			asked = max(asked, f.answer.wait(now))
		}
		if s.unsaved && err == nil && s.window.unanswered() != none {
			err = s.save()
		}
	}
	switch trouble {
	case unavailable:
		s.pace.unavailable(now, asked)
	case misconfigured:
		s.pace.misconfigured(now, asked)
	}
	if err == nil && !sent && ctx.Err() == nil && s.window.unanswered() != none && s.pace.rest(now) == 0 {
		return errNothingGoes
	}
	return err
}

// board returns a flight with the next piece to send. Requests that are being
// inquired into come after all others, one at a time, so they go only when
// nothing else is in the air. It returns nil if there is nothing to send, or
// nothing may go yet.
func (s *Shipper) board(now time.Time) *flight {
	first := s.window.unanswered()
	if first == none {
		return nil
	}
	suspect, waits := none, false
	for i := first; i < min(first+maxAhead, len(s.window.requests)); i++ {
		r, f := &s.window.requests[i], s.flightOf(i)
		switch {
		case r.done:
		case f != nil && f.inFlight:
			waits = true
		case r.inquiry != nil:
			if suspect == none {
				suspect = i
			}
		case f == nil: // requests behind it have kept the flights they went with
		default:
			if f := s.take(i, now); f != nil {
				return f
			}
			if !r.done {
				return nil // the pace does not allow it
			}
		}
	}
	if suspect == none || waits {
		return nil
	}
	if f := s.take(suspect, now); f != nil || !s.window.requests[suspect].done {
		return f
	}
	return s.board(now) // the rest of it was given up
}

// take puts the next piece of request i on a flight. It returns nil when there
// is nothing left of the request that can be sent, or it may not go yet.
func (s *Shipper) take(i int, now time.Time) *flight {
	f, r := s.flightOf(i), &s.window.requests[i]
	if f == nil {
		return nil
	}
	version := s.protocol()
	if f.request == i && f.protocol == version {
		s.metrics.retries.Inc()
		return f
	}
	f.protocol = version
	p := s.prepare(f, r, now)
	for p != nil && version == config.ProtocolV1 && s.window.unsupported(p) == p.counts {
		if r.trying() {
			s.nextProbe(r)
		} else {
			s.conclude(f, r, wal.Totals{}, ReasonUnsupported, &f.answer, true)
		}
		p = s.prepare(f, r, now)
	}
	if p == nil || !s.pace.admit(now, p.points()) {
		return nil
	}
	f.request = i
	s.message = s.encoder.append(s.message[:0], version, &s.window, p)
	// A flight keeps its bytes, and Snappy wants room for the worst case.
	s.block = s2.EncodeSnappy(s.block[:cap(s.block)], s.message)
	f.body = append(f.body[:0], s.block...)
	return f
}

// flightOf returns the flight that has request i, or a free one.
func (s *Shipper) flightOf(i int) *flight {
	var free *flight
	for _, f := range s.flights {
		if f.request == i {
			return f
		}
		if f.request == none {
			free = f
		}
	}
	return free
}

// fly makes one attempt. It runs beside other flights and touches nothing but
// its own.
func (s *Shipper) fly(ctx context.Context, f *flight) {
	start := time.Now()
	f.answer = s.client.post(ctx, f.protocol, f.body)
	f.took = time.Since(start)
}
