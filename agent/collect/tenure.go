package collect

import (
	"errors"
	"sync/atomic"
)

// errRetired is why a round is discarded: a reload has put other workers in
// the place of the one that collected it.
var errRetired = errors.New("the worker was replaced by a reload: what it still collects is discarded")

// tenure says whether a worker may append. A worker whose query hangs is
// retired while it runs; from then on it appends nothing, shows nothing new,
// and its last good round stays as it is.
type tenure struct{ state atomic.Int32 }

const (
	tenureIdle int32 = iota
	tenureAppending
	tenureOver
)

// enter is called before a round is appended; false: it must not be. What it
// allows ends with leave.
func (t *tenure) enter() bool { return t.state.CompareAndSwap(tenureIdle, tenureAppending) }

func (t *tenure) leave() { t.state.Store(tenureIdle) }

// retire ends the tenure; false: a round is being appended just now.
func (t *tenure) retire() bool {
	return t.state.CompareAndSwap(tenureIdle, tenureOver) || t.state.Load() == tenureOver
}
