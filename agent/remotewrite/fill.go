package remotewrite

import (
	"errors"
	"fmt"
	"io"
	"time"

	"sql2metrics/wal"
)

// fill reads frames until the window is full: as large as it may be, as old as
// deadline, or, if it was in flight before a restart, as long as it was then.
func (s *Shipper) fill(now time.Time, deadline time.Duration) (rest time.Duration, full bool, err error) {
	for {
		if !s.held {
			err := s.reader.Next(&s.frame)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return 0, false, fmt.Errorf("read log: %w", err)
			}
			s.held = true
		}
		if s.window.frames > 0 && s.beyond(&s.frame) {
			return 0, true, nil
		}
		if s.resumed != nil && s.frame.Position.Seq > s.resumed.End {
			s.resumed = nil // the log cannot read it any more
		}
		s.window.add(&s.frame, s.table)
		s.held = false
		if s.resumed != nil && s.window.end.Seq == s.resumed.End {
			return 0, true, nil
		}
	}
	if s.window.frames == 0 {
		return idle, false, nil
	}
	age := now.Sub(time.UnixMilli(s.window.oldest))
	if s.resumed != nil || age >= deadline || age < 0 {
		// An age below zero means that the clock was set back, and says
		// nothing about how long the frame has waited.
		return 0, true, nil
	}
	return deadline - age, false, nil
}

// peek reads the frame that comes next, so that the age of the backlog is known
// before the first step. Trouble with it is the first step's.
func (s *Shipper) peek() {
	if err := s.reader.Next(&s.frame); err == nil {
		s.held = true
	}
}

// beyond tells whether f belongs to the window after this one.
func (s *Shipper) beyond(f *wal.Frame) bool {
	switch {
	case s.resumed != nil:
		return f.Position.Seq > s.resumed.End
	case s.window.first <= s.doubtful:
		// Which frames were sent together is not known: one that was not must
		// not be refused because of one that was.
		return true
	}
	return s.window.weight+s.window.weigh(f) > maxWindow
}

// leaveEvicted begins to read anew where the log does, if it has removed the
// segment that the reader stands in. The reader could go on in the file it has
// open, but that would keep its bytes on the disk, and the ledger counts them
// as evicted.
func (s *Shipper) leaveEvicted() error {
	gone := s.bookGone()
	if gone {
		s.held = false
	}
	passed, _ := s.passed()
	if !gone && s.log.Stats().Oldest.Seq <= passed.Seq {
		return nil
	}
	left := s.reader
	s.reader = s.log.Reader(passed)
	return left.Close()
}

// passed is where the reader stands, and what was evicted before there and is
// not booked.
func (s *Shipper) passed() (p wal.Position, evicted wal.Totals) {
	switch {
	case s.held:
		return s.frame.Position, s.window.evicted.Add(s.frame.Evicted)
	case s.window.frames > 0:
		return s.window.end, s.window.evicted
	}
	return s.position, wal.Totals{}
}

// empty tells whether nothing is at hand to be sent.
func (s *Shipper) empty() bool { return s.window.frames == 0 && !s.held }

// look reads the frame that comes next while nothing may be sent, so that the
// age of the backlog is known.
func (s *Shipper) look() error {
	if !s.empty() {
		return nil
	}
	s.startReading()
	if err := s.leaveEvicted(); err != nil {
		return err
	}
	if s.unsaved {
		if err := s.save(); err != nil {
			return err
		}
	}
	s.peek()
	s.publish()
	return nil
}
