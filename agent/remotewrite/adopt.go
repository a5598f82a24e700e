package remotewrite

import (
	"errors"
	"log/slog"
	"slices"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// Adopt hands the cursors of endpoints that have vanished over to endpoints
// that are new: to the one whose adopt_from says so, and, where exactly one has
// vanished and one is new, to that one. It is called before any of the
// endpoints is opened. A cursor that nobody takes over holds nothing back; it
// is left alone, and the log says so.
func Adopt(log *wal.Log, endpoints []config.RemoteWrite, logger *slog.Logger) error {
	orphans, err := log.Cursors()
	if err != nil {
		return err
	}
	var fresh []config.RemoteWrite
	for _, e := range endpoints {
		name, err := wal.CursorName(e.Name)
		if err != nil {
			return err
		}
		if i := slices.Index(orphans, name); i >= 0 {
			orphans = slices.Delete(orphans, i, i+1)
		} else {
			fresh = append(fresh, e)
		}
	}
	var errs []error
	adopt := func(from string, to config.RemoteWrite) {
		if err := log.AdoptCursor(from, to.Name); err != nil {
			errs = append(errs, err)
			return
		}
		logger.Info("endpoint takes over the cursor of one that has vanished: it goes on where that one stopped", "endpoint", to.Name, "from", from)
	}
	var unnamed []config.RemoteWrite
	for _, e := range fresh {
		if e.AdoptFrom == "" {
			unnamed = append(unnamed, e)
			continue
		}
		name, err := wal.CursorName(e.AdoptFrom)
		if err != nil {
			return err
		}
		i := slices.Index(orphans, name)
		if i < 0 {
			logger.Warn("there is no cursor to take over; the endpoint begins where start_at says", "endpoint", e.Name, "adopt_from", e.AdoptFrom, "start_at", e.StartAt)
			continue
		}
		orphans = slices.Delete(orphans, i, i+1)
		adopt(e.AdoptFrom, e)
	}
	if len(orphans) == 1 && len(unnamed) == 1 {
		adopt(orphans[0], unnamed[0])
		orphans = nil
	}
	for _, name := range orphans {
		logger.Warn("a cursor belongs to no endpoint; it holds nothing back, and is kept until an endpoint of that name or with that adopt_from takes it up, or its file is deleted",
			"cursor", name)
	}
	return errors.Join(errs...)
}
