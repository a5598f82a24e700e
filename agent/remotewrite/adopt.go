package remotewrite

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// Adopt hands the cursors of endpoints that have vanished over to endpoints
// that are new, and their dead letters with them: to the one whose adopt_from
// says so, and, where since the last start or reload exactly one has vanished
// and exactly one is new, to that one. Then it saves the names for the next
// time. A cursor that nobody takes over is left alone and holds nothing back;
// the log says so.
//
// It is called at start before any endpoint is opened, and in a reload between
// the close of those that vanish and the opening of new ones, all three within
// [wal.Log.Hold]. After an error the names are not saved and the next call does
// what is left; until then no new endpoint may be opened, as it would make a
// cursor of its own. letters may be nil.
func Adopt(log *wal.Log, letters *DeadLetter, endpoints []config.RemoteWrite, logger *slog.Logger) error {
	cursors, err := log.Cursors()
	if err != nil {
		return err
	}
	before, err := log.Endpoints()
	if err != nil && len(cursors) > 0 {
		logger.Warn("which endpoints there were at the last start is not known: no new one takes over a cursor unless its adopt_from says so", "err", err)
	}
	s := succeed(before, endpoints, cursors)
	var errs []error
	for _, a := range s.adoptions {
		errs = append(errs, a.carryOut(log, letters, logger))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.report(logger)
	names := make([]string, len(endpoints))
	for i, e := range endpoints {
		names[i] = e.Name
	}
	if err := log.SaveEndpoints(names); err != nil {
		logger.Warn("an endpoint that is renamed before the next start does not take over its cursor by itself, but with adopt_from", "err", err)
	}
	return nil
}

// adoption is a cursor that goes from one endpoint to another.
type adoption struct{ from, to string }

// carryOut moves the dead letters first: the cursor's move, which is whole or
// not at all, ends an adoption, and one that was interrupted begins again.
func (a adoption) carryOut(log *wal.Log, letters *DeadLetter, logger *slog.Logger) error {
	if err := letters.moveLetters(a.from, a.to); err != nil {
		logger.Warn("dead letters of an endpoint that has vanished stay with its name; once one is called so they can be sent again", "endpoint", a.from, "err", err)
	}
	if err := log.AdoptCursor(a.from, a.to); err != nil {
		return fmt.Errorf("%w; see to it that the agent's user may write there, and start again: until then %q has no place to go on from", err, a.to)
	}
	logger.Info("endpoint takes over the cursor of one that has vanished: it goes on where that one stopped", "endpoint", a.to, "from", a.from)
	return nil
}

// succession is what becomes of cursors as endpoints come and go.
type succession struct {
	adoptions []adoption
	missing   []config.RemoteWrite // there is no cursor of the name in adopt_from
	seated    []config.RemoteWrite // there is one, and the endpoint has its own
	// Several endpoints vanished or are new, so that nobody can tell who goes
	// on for whom. Both are empty where it is clear.
	vanished, fresh []string
	orphans         []string // cursors that no endpoint has
}

// succeed decides who takes over whose cursor. It goes by the names of the
// endpoints there were, none if they are not known, the endpoints there are,
// and the cursors as [wal.Log.Cursors] lists them, and touches nothing.
func succeed(before []string, now []config.RemoteWrite, cursors []string) succession {
	s := succession{orphans: slices.Clone(cursors)}
	vanished := slices.Clone(before)
	var fresh []config.RemoteWrite
	seated := map[string]bool{}
	for _, e := range now {
		seated[e.Name] = s.take(e.Name)
		if i := slices.Index(vanished, e.Name); i >= 0 {
			vanished = slices.Delete(vanished, i, i+1)
		} else {
			fresh = append(fresh, e)
		}
	}
	for _, e := range now {
		switch {
		case e.AdoptFrom == "":
		case seated[e.Name]:
			if s.orphaned(e.AdoptFrom) >= 0 {
				s.seated = append(s.seated, e)
			}
		case s.adopt(e.AdoptFrom, e.Name):
			vanished = slices.DeleteFunc(vanished, func(name string) bool { return name == e.AdoptFrom })
			fresh = slices.DeleteFunc(fresh, func(f config.RemoteWrite) bool { return f.Name == e.Name })
		default:
			s.missing = append(s.missing, e)
		}
	}
	if len(vanished) == 1 && len(fresh) == 1 && fresh[0].AdoptFrom == "" && !seated[fresh[0].Name] {
		s.adopt(vanished[0], fresh[0].Name)
		return s
	}
	for _, name := range vanished {
		if s.orphaned(name) >= 0 {
			s.vanished = append(s.vanished, name)
		}
	}
	for _, e := range fresh {
		if e.AdoptFrom == "" && !seated[e.Name] {
			s.fresh = append(s.fresh, e.Name)
		}
	}
	if len(s.vanished) == 0 || len(s.fresh) == 0 {
		s.vanished, s.fresh = nil, nil
	}
	return s
}

// orphaned is where the cursor of that name is among the orphans; -1 if it is
// none of them.
func (s *succession) orphaned(name string) int {
	listed, err := wal.CursorName(name)
	if err != nil {
		return -1 // no name
	}
	return slices.Index(s.orphans, listed)
}

// take takes the cursor of that name out of the orphans, if it is there.
func (s *succession) take(name string) bool {
	i := s.orphaned(name)
	if i >= 0 {
		s.orphans = slices.Delete(s.orphans, i, i+1)
	}
	return i >= 0
}

func (s *succession) adopt(from, to string) bool {
	found := s.take(from)
	if found {
		s.adoptions = append(s.adoptions, adoption{from, to})
	}
	return found
}

// report says what an operator may have meant otherwise, and what to do then.
func (s *succession) report(logger *slog.Logger) {
	for _, e := range s.missing {
		logger.Warn("there is no cursor to take over; the endpoint begins where start_at says. If adopt_from is misspelled, correct it and give the endpoint another name",
			"endpoint", e.Name, "adopt_from", e.AdoptFrom, "start_at", e.StartAt, "orphans", s.orphans)
	}
	for _, e := range s.seated {
		logger.Warn("the endpoint has a cursor and does not take over another. Delete adopt_from, or give the endpoint a new name to have it go on where that one stopped",
			"endpoint", e.Name, "adopt_from", e.AdoptFrom)
	}
	if len(s.fresh) > 0 {
		logger.Warn("endpoints have vanished and others are new, and nobody can tell who goes on for whom: the new ones begin where start_at says. To go on for one that vanished, an endpoint needs adopt_from and a name that is new again",
			"vanished", s.vanished, "new", s.fresh)
	}
	for _, name := range s.orphans {
		logger.Warn("a cursor belongs to no endpoint; it holds nothing back, and is kept until an endpoint of that name or with that adopt_from takes it up, or its file is deleted, which sql2metrics wal stats names",
			"cursor", name)
	}
}
