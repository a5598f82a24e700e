package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"sql2metrics/sources"
	"sql2metrics/wal"
)

// failure says why a run failed; it is the label reason of
// sql2metrics_query_errors_total.
type failure string

const (
	failedConnect failure = "connect"        // the server could not be reached
	failedBusy    failure = "busy"           // no connection became free: all were running other queries of the source
	failedTimeout failure = "timeout"        // the query ran into its timeout
	failedQuery   failure = "query"          // the server refused the query or broke off; its exposition is malformed
	failedLimit   failure = "limit"          // the result has more rows or samples than on_limit: drop takes, or a page more than its source allows
	failedPartial failure = "partial"        // in some of the source's databases; the rows of the others were used
	failedAppend  failure = "append"         // the log could not be written
	clockBack     failure = "clock_back"     // nothing was run; counted among the skipped ticks
	notApplicable failure = "not_applicable" // likewise: the server is not what the query requires
)

func classify(err error) failure {
	if err == nil {
		return "" // at no cost: most runs are good
	}
	var connect *sources.ConnectError
	var busy *sources.BusyError
	var unwritten *appendError
	var over *limitError
	var overPage *pageLimitError
	var partial *sources.PartialError
	var closed *sources.NotApplicableError
	switch {
	case errors.As(err, &closed):
		return notApplicable
	case errors.As(err, &partial):
		return failedPartial
	case errors.As(err, &connect):
		return failedConnect
	case errors.As(err, &busy):
		return failedBusy
	case errors.Is(err, context.DeadlineExceeded):
		return failedTimeout
	case errors.As(err, &over), errors.As(err, &overPage):
		return failedLimit
	case errors.As(err, &unwritten):
		return failedAppend
	case errors.Is(err, errClockBack):
		return clockBack
	}
	return failedQuery
}

// settled tells whether a run that ended with err is not to be repeated before
// its next tick: all that could be done was done.
func settled(err error) bool {
	switch classify(err) {
	case "", clockBack, notApplicable, failedPartial:
		return true
	}
	return false
}

// appendError says that the log could not take the round.
type appendError struct{ err error }

func (e *appendError) Error() string { return "append round: " + e.err.Error() }
func (e *appendError) Unwrap() error { return e.err }

// account counts and logs what becomes of a worker's runs.
type account struct {
	what    string // the worker runs: query or scrape
	shared  bool   // a Health says when the source is down
	metrics *queryMetrics
	logger  *slog.Logger

	late    refusals // samples the log refused, most often for their time
	failing failure  // of the last run
}

// ended writes a line to the log when a run fails in another way than the one
// before, or no longer. That a source is down is said once for all its
// queries, by its Health if it has one.
func (a *account) ended(err error, rows, series int) {
	why, before := classify(err), a.failing
	a.failing = why
	switch {
	case why == before:
	case why == clockBack:
		a.logger.Warn(a.what+" skipped", "reason", string(why), "err", err)
	case why == notApplicable:
		a.logger.Info(a.what+" skipped", "reason", string(why), "err", err)
	case why == "" && before == notApplicable:
		a.logger.Info(a.what+" applies", "rows", rows, "series", series)
	case why == failedConnect && a.shared, why == "" && before == failedConnect && a.shared:
	case err != nil:
		a.logger.Warn(a.what+" failed", "reason", string(why), "err", err)
	default:
		a.logger.Info(a.what+" works again", "rows", rows, "series", series)
	}
}

// behindClock counts a tick that is not after the newest sample.
func (a *account) behindClock() error {
	a.metrics.clockBack.Inc()
	return errClockBack
}

// failed counts a failure, or a run that was passed over, and returns it.
func (a *account) failed(err error) error {
	a.metrics.errors[classify(err)].Inc()
	return err
}

// Why the log refuses samples.
var (
	errLateRows = errors.New("the log has samples of these series that are not older: two queries make the same series, or the clock went back")
	errLatePage = errors.New("the log has samples of these series that are not older: the page's own times went back, another source makes the same series, or the clock went back")
	errTooLarge = fmt.Errorf("series whose labels have more than about %d MiB do not fit into the log: let label_value_length_limit refuse them, or have whoever makes them shorten them", wal.MaxLabelBytes>>20)
)

// appended takes note of what the log refused of a round.
func (a *account) appended(w wal.Appended) {
	late := errLateRows
	if a.what == bookScrape {
		late = errLatePage
	}
	a.late.refuseAs(&refused{refusedTime, late}, int(both(w.Refused.Sub(w.Unfit))))
	a.late.refuseAs(&refused{refusedTooLarge, errTooLarge}, int(both(w.Unfit)))
}

// refusedIn logs each reason for which a round refused something when it first
// shows up.
func (a *account) refusedIn(r *refusals, attributes ...any) {
	r.end(func(why reason, n int, err error) {
		if err != nil {
			a.logger.Warn("samples refused", append(attributes[:len(attributes):len(attributes)],
				"reason", why.String(), "count", n, "err", err)...)
		}
	})
}
