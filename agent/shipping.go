package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/prometheus/common/version"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/agent/remotewrite"
	"sql2metrics/config"
)

const (
	// settleTime bounds how long a reload waits for the requests of an endpoint
	// that it replaces. Those that are cut off go first and alone afterwards.
	settleTime = 5 * time.Second
	// openAgain is between two attempts to open endpoints in a folder that
	// cannot be written.
	openAgain = 10 * time.Second
)

// endpoint is one of the configuration, with its shipper.
type endpoint struct {
	config   config.RemoteWrite
	external labels.Labels
	shipper  *remotewrite.Shipper // nil as long as it cannot be opened
	stop     chan struct{}
	running  *group
}

func (a *Agent) openDeadLetter() (err error) {
	a.deadLetter, err = remotewrite.OpenDeadLetter(remotewrite.DeadLetterOptions{
		Path:       remotewrite.DeadLetterFolder(a.config.Storage.Path),
		MaxBytes:   a.config.Storage.DeadLetterMaxBytes,
		NoSync:     a.config.Storage.Fsync == config.FsyncNever,
		Logger:     a.logger,
		Registerer: a.registry,
	})
	return err
}

// openShipping opens the endpoints of the first configuration.
func (a *Agent) openShipping() error {
	if err := a.openDeadLetter(); err != nil {
		return err
	}
	for _, e := range a.config.RemoteWrite {
		a.endpoints = append(a.endpoints, &endpoint{config: e, external: a.config.Global.ExternalLabels})
	}
	return a.openEndpoints(a.config)
}

// openEndpoints opens those of c that are not open, after cursors have found
// their new owners.
func (a *Agent) openEndpoints(c *config.Config) error {
	if err := remotewrite.Adopt(a.log, a.deadLetter, c.RemoteWrite, a.logger); err != nil {
		return fmt.Errorf("hand over cursors: %w", err)
	}
	var errs []error
	for _, e := range a.endpoints {
		if e.shipper != nil {
			continue
		}
		var err error
		e.shipper, err = remotewrite.New(remotewrite.Options{
			Endpoint:       e.config,
			ExternalLabels: e.external,
			Log:            a.log,
			Logger:         a.logger,
			UserAgent:      "sql2metrics/" + version.Version,
			Registerer:     a.registry,
			DeadLetter:     a.deadLetter,
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("open endpoint %s: %w", e.config.Name, err))
		}
	}
	a.showEndpoints()
	return errors.Join(errs...)
}

// ship starts the endpoints that are open and do not run.
func (a *Agent) ship(ctx context.Context) {
	for _, e := range a.endpoints {
		if e.shipper == nil || e.running != nil {
			continue
		}
		e.stop = make(chan struct{})
		e.running = start(ctx, func(ctx context.Context) { e.shipper.Run(ctx, e.stop) })
	}
}

// replaceEndpoints has the endpoints of c take the place of those that run. One
// with the same settings goes on undisturbed; one with others goes on from the
// same cursor.
func (a *Agent) replaceEndpoints(ctx context.Context, c *config.Config) {
	defer a.log.Hold()()
	var all, replaced []*endpoint
	for _, cfg := range c.RemoteWrite {
		all = append(all, &endpoint{config: cfg, external: c.Global.ExternalLabels})
	}
	for _, e := range a.endpoints {
		if i := e.among(all); i >= 0 {
			all[i] = e
		} else {
			replaced = append(replaced, e)
		}
	}
	settled, done := context.WithTimeout(ctx, settleTime)
	defer done()
	for _, e := range replaced {
		if e.running != nil {
			close(e.stop)
			context.AfterFunc(settled, e.running.cancel)
		}
	}
	for _, e := range replaced {
		if e.running != nil {
			e.running.wg.Wait()
		}
		e.close(a)
	}
	a.endpoints = all
	a.releaseUnopened()
	if err := a.openEndpoints(c); err != nil {
		a.logger.Error("endpoints are not open; that is tried again until they are, and what is appended waits for them", "err", err)
		a.unopened = a.log.Hold()
	}
	a.ship(ctx)
}

// tryEndpoints opens what a reload could not.
func (a *Agent) tryEndpoints(ctx context.Context) {
	if a.openEndpoints(a.config) != nil {
		return // it has been said
	}
	a.logger.Info("endpoints are open")
	a.releaseUnopened()
	a.ship(ctx)
	a.watchLoops()
}

// releaseUnopened lets the log go on as its open cursors say.
func (a *Agent) releaseUnopened() {
	if a.unopened != nil {
		a.unopened()
		a.unopened = nil
	}
}

// among returns where in all e has its like; -1 if nowhere, or if it is not
// open and so nothing to keep.
func (e *endpoint) among(all []*endpoint) int {
	for i, o := range all {
		if e.shipper != nil && reflect.DeepEqual(e.config, o.config) && labels.Equal(e.external, o.external) {
			return i
		}
	}
	return -1
}

// close comes when the endpoint does not run.
func (e *endpoint) close(a *Agent) {
	if e.shipper == nil {
		return
	}
	if err := e.shipper.Close(); err != nil {
		a.logger.Error("endpoint not closed cleanly", "endpoint", e.config.Name, "err", err)
	}
}

// showEndpoints has the status page show those that are open.
func (a *Agent) showEndpoints() {
	var open []*remotewrite.Shipper
	for _, e := range a.endpoints {
		if e.shipper != nil {
			open = append(open, e.shipper)
		}
	}
	a.shown.Store(&open)
}

// statuses returns how the endpoints are, in the order of the configuration.
func (a *Agent) statuses() (all []remotewrite.Status) {
	if shown := a.shown.Load(); shown != nil {
		for _, s := range *shown {
			all = append(all, s.Status())
		}
	}
	return all
}

func (a *Agent) closeEndpoints() {
	a.releaseUnopened()
	for _, e := range a.endpoints {
		e.close(a)
	}
	a.endpoints = nil
}

// flushEndpoints ends the loops of the endpoints, has each ship what is left
// for at most as long as the grace, and says what the next start will ship.
func (a *Agent) flushEndpoints(ctx context.Context, grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	var flushes []func(context.Context)
	for _, e := range a.endpoints {
		if e.running == nil {
			continue
		}
		close(e.stop)
		defer context.AfterFunc(ctx, e.running.cancel)()
		flushes = append(flushes, func(context.Context) {
			e.running.wg.Wait()
			_ = e.shipper.Flush(ctx) // reportLeft says what it could not ship
			e.running.cancel()
		})
	}
	start(ctx, flushes...).wg.Wait()
	a.reportLeft()
}

// syncLast shows the endpoints what was collected since the last sync.
func (a *Agent) syncLast() {
	if err := a.log.Sync(time.Now()); err != nil {
		a.logger.Error("last sync failed; what was collected since the one before is shipped after the next start", "err", err)
	}
}

// reportLeft says what the next start will ship.
func (a *Agent) reportLeft() {
	for _, e := range a.endpoints {
		if e.shipper == nil {
			continue
		}
		left := e.shipper.Ledger().Pending
		if left.IsZero() {
			a.logger.Info("endpoint stopped, everything is shipped", "endpoint", e.config.Name)
			continue
		}
		a.logger.Info("endpoint stopped; what is left stays on disk for the next start", "endpoint", e.config.Name,
			"samples", left.Samples, "histograms", left.Histograms, "exemplars", left.Exemplars)
	}
}
