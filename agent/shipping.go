package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/version"

	"sql2metrics/agent/remotewrite"
	"sql2metrics/config"
)

func (a *Agent) openEndpoints() error {
	deadLetter, err := remotewrite.OpenDeadLetter(remotewrite.DeadLetterOptions{
		Path:       remotewrite.DeadLetterFolder(a.config.Storage.Path),
		MaxBytes:   a.config.Storage.DeadLetterMaxBytes,
		NoSync:     a.config.Storage.Fsync == config.FsyncNever,
		Logger:     a.logger,
		Registerer: a.registry,
	})
	if err != nil {
		return err
	}
	if err := remotewrite.Adopt(a.log, deadLetter, a.config.RemoteWrite, a.logger); err != nil {
		return fmt.Errorf("hand over cursors: %w", err)
	}
	for _, e := range a.config.RemoteWrite {
		s, err := remotewrite.New(remotewrite.Options{
			Endpoint:       e,
			ExternalLabels: a.config.Global.ExternalLabels,
			Log:            a.log,
			Logger:         a.logger,
			UserAgent:      "sql2metrics/" + version.Version,
			Registerer:     a.registry,
			DeadLetter:     deadLetter,
		})
		if err != nil {
			return fmt.Errorf("open endpoint %s: %w", e.Name, err)
		}
		a.shippers = append(a.shippers, s)
	}
	shown := slices.Clone(a.shippers)
	a.shown.Store(&shown)
	return nil
}

// endpoints returns how the endpoints are, in the order of the configuration.
func (a *Agent) endpoints() (all []remotewrite.Status) {
	if shown := a.shown.Load(); shown != nil {
		for _, s := range *shown {
			all = append(all, s.Status())
		}
	}
	return all
}

func (a *Agent) closeEndpoints() {
	for _, s := range a.shippers {
		if err := s.Close(); err != nil {
			a.logger.Error("endpoint not closed cleanly", "err", err)
		}
	}
	a.shippers = nil
}

// startShipping starts the endpoints. Once flush is closed they end by
// themselves: when they have shipped what is left.
func (a *Agent) startShipping(ctx context.Context, flush <-chan struct{}) *group {
	var loops []func(context.Context)
	for _, s := range a.shippers {
		loops = append(loops, func(ctx context.Context) {
			s.Run(ctx, flush)
			_ = s.Flush(ctx) // reportLeft says what it could not ship
		})
	}
	return start(ctx, loops...)
}

// syncLast shows the endpoints what was collected since the last sync.
func (a *Agent) syncLast() {
	if err := a.log.Sync(time.Now()); err != nil {
		a.logger.Error("last sync failed; what was collected since the one before is shipped after the next start", "err", err)
	}
}

// reportLeft says what the next start will ship.
func (a *Agent) reportLeft() {
	for _, s := range a.shippers {
		left := s.Ledger().Pending
		if left.IsZero() {
			a.logger.Info("endpoint stopped, everything is shipped", "endpoint", s.Name())
			continue
		}
		a.logger.Info("endpoint stopped; what is left stays on disk for the next start", "endpoint", s.Name(),
			"samples", left.Samples, "histograms", left.Histograms, "exemplars", left.Exemplars)
	}
}
