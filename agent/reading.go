package agent

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"runtime"
	"strings"

	"sql2metrics/config"
)

// content is that of the files, as they are.
func content(ctx context.Context, files config.Files) ([sha256.Size]byte, error) {
	return unlessOver(ctx, func() ([sha256.Size]byte, error) { return files.Content(), nil })
}

// unlessOver returns what read returns, or errStopping as soon as ctx ends: read
// may hang in a file system that is away, where nothing interrupts it, and the
// agent is to stop all the same. It ends then whenever it does. A panic in read
// is a [*readingPanic].
func unlessOver[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if cause := recover(); cause != nil {
				r.err = &readingPanic{cause, panicPlace()}
			}
			done <- r
		}()
		r.value, r.err = read()
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, errStopping
	}
}

// readingPanic is a panic while a configuration was read. That is a defect of
// the agent, but who edits a file is not to end what runs.
type readingPanic struct {
	cause any
	at    string // file:line
}

func (e *readingPanic) Error() string {
	return fmt.Sprintf("the configuration could not be read: internal error: %v at %s; take the last edit back, and please report this", e.cause, e.at)
}

// panicPlace returns where the panic under way began. A deferred function of the
// goroutine that panics calls it.
func panicPlace() string {
	for above := 2; ; above++ {
		pc, file, line, ok := runtime.Caller(above)
		if !ok {
			return "an unknown place"
		}
		if !strings.HasPrefix(runtime.FuncForPC(pc).Name(), "runtime.") {
			return fmt.Sprintf("%s:%d", path.Base(file), line)
		}
	}
}
