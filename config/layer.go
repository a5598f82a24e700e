package config

import (
	"maps"
	"time"
)

// written is the value of a field on one level of the configuration, and where
// it stands there. The zero written was not written.
type written[T any] struct {
	value T
	at    node
}

func (w written[T]) is() bool { return w.at.in != nil }

// or returns w or, if it was not written, what the level around it says.
func (w written[T]) or(outer written[T]) written[T] {
	if w.is() {
		return w
	}
	return outer
}

// get returns the value or, if none was written, the default.
func (w written[T]) get(otherwise T) T {
	if w.is() {
		return w.value
	}
	return otherwise
}

// read takes the value of n. One that is wrong has been reported by set and
// counts as not written, so that no check that follows judges it.
func read[T any](n node, into *written[T], set func(node, *T)) {
	before := len(n.in.load.errs)
	var value T
	if set(n, &value); len(n.in.load.errs) == before {
		*into = written[T]{value, n}
	}
}

// layer holds the fields that may stand on several levels: in global, in a
// collector, and in a query or a metric. The innermost that was written holds.
type layer struct {
	interval       written[time.Duration]
	schedule       written[cronSpec]
	timezone       written[*time.Location]
	align          written[bool]
	runOnStart     written[bool]
	timeout        written[time.Duration]
	resendInterval written[time.Duration]
	staleAfter     written[time.Duration]
	onError        written[failure]

	rowLimit    written[int]
	sampleLimit written[int]
	onLimit     written[OnLimit]

	onNull          written[OnNull]
	onDuplicate     written[OnDuplicate]
	labelLimit      written[int]
	labelNameLimit  written[int]
	labelValueLimit written[int]
}

// failure is on_error as it is written.
type failure struct {
	policy  OnError
	keepFor time.Duration
}

// over returns the layer with what it leaves open filled from outer. An
// interval is as good as a schedule: either replaces both of outer's.
func (l layer) over(outer layer) layer {
	if !l.interval.is() && !l.schedule.is() {
		l.interval, l.schedule = outer.interval, outer.schedule
	}
	l.timezone = l.timezone.or(outer.timezone)
	l.align = l.align.or(outer.align)
	l.runOnStart = l.runOnStart.or(outer.runOnStart)
	l.timeout = l.timeout.or(outer.timeout)
	l.resendInterval = l.resendInterval.or(outer.resendInterval)
	l.staleAfter = l.staleAfter.or(outer.staleAfter)
	l.onError = l.onError.or(outer.onError)
	l.rowLimit = l.rowLimit.or(outer.rowLimit)
	l.sampleLimit = l.sampleLimit.or(outer.sampleLimit)
	l.onLimit = l.onLimit.or(outer.onLimit)
	l.onNull = l.onNull.or(outer.onNull)
	l.onDuplicate = l.onDuplicate.or(outer.onDuplicate)
	l.labelLimit = l.labelLimit.or(outer.labelLimit)
	l.labelNameLimit = l.labelNameLimit.or(outer.labelNameLimit)
	l.labelValueLimit = l.labelValueLimit.or(outer.labelValueLimit)
	return l
}

// policies returns what the layer says about results that are too large.
func (l layer) policies() Policies {
	return Policies{RowLimit: l.rowLimit.value, SampleLimit: l.sampleLimit.value, OnLimit: l.onLimit.get(OnLimitDrop)}
}

// labelLimits returns what the layer says about labels.
func (l layer) labelLimits() LabelLimits {
	return LabelLimits{Count: l.labelLimit.value, NameLength: l.labelNameLimit.value, ValueLength: l.labelValueLimit.value}
}

type layerFields map[string]func(node, *layer)

// runFields are those of global, collectors and queries.
var runFields = layerFields{
	"timezone":        func(n node, l *layer) { read(n, &l.timezone, node.location) },
	"align":           func(n node, l *layer) { read(n, &l.align, node.bool) },
	"run_on_start":    func(n node, l *layer) { read(n, &l.runOnStart, node.bool) },
	"resend_interval": func(n node, l *layer) { read(n, &l.resendInterval, node.durationOrZero) },
	"on_error":        func(n node, l *layer) { read(n, &l.onError, node.failure) },
	"row_limit":       func(n node, l *layer) { read(n, &l.rowLimit, node.limit) },
	"sample_limit":    func(n node, l *layer) { read(n, &l.sampleLimit, node.limit) },
	"on_limit": func(n node, l *layer) {
		read(n, &l.onLimit, func(n node, into *OnLimit) { oneOf(n, into, OnLimitDrop, OnLimitTruncate) })
	},
}

// clockFields are those of collectors and queries. What stands for them in
// global is scrape_interval and scrape_timeout.
var clockFields = layerFields{
	"schedule":    func(n node, l *layer) { read(n, &l.schedule, node.schedule) },
	"timeout":     func(n node, l *layer) { read(n, &l.timeout, node.duration) },
	"stale_after": func(n node, l *layer) { read(n, &l.staleAfter, node.duration) },
}

// cellFields are those of global, collectors and metrics.
var cellFields = layerFields{
	"on_null": func(n node, l *layer) {
		read(n, &l.onNull, func(n node, into *OnNull) { oneOf(n, into, OnNullSkip, OnNullZero, OnNullNaN) })
	},
	"on_duplicate": func(n node, l *layer) {
		read(n, &l.onDuplicate, func(n node, into *OnDuplicate) {
			oneOf(n, into, OnDuplicateFirst, OnDuplicateLast, OnDuplicateSum, OnDuplicateDrop)
		})
	},
	"label_limit":              func(n node, l *layer) { read(n, &l.labelLimit, node.limit) },
	"label_name_length_limit":  func(n node, l *layer) { read(n, &l.labelNameLimit, node.limit) },
	"label_value_length_limit": func(n node, l *layer) { read(n, &l.labelValueLimit, node.limit) },
}

// withLayer returns the fields of a T together with those of the layer in it.
func withLayer[T any](in func(*T) *layer, fields map[string]func(node, *T), sets ...layerFields) map[string]func(node, *T) {
	for _, set := range sets {
		for name, read := range set {
			fields[name] = func(n node, into *T) { read(n, in(into)) }
		}
	}
	return fields
}

// refuse returns a refusal for each field of the sets, and the others.
func refuse(r refusal, others map[string]refusal, sets ...layerFields) map[string]refusal {
	all := map[string]refusal{}
	for _, set := range sets {
		for name := range set {
			all[name] = r
		}
	}
	maps.Copy(all, others)
	return all
}

// limit sets *into to a number from 0, which is no limit.
func (n node) limit(into *int) { n.int(0, into) }

func (n node) durationOrZero(into *time.Duration) { n.anyDuration(into) }
