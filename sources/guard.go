package sources

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// panicError is a panic of a driver. What it was doing is lost, and the
// connection with it.
type panicError struct {
	cause any
	at    string // file:line
}

func (e *panicError) Error() string {
	return fmt.Sprintf("driver cannot read what the server sent: %v at %s; is it the right kind of server? If so, please report this", e.cause, e.at)
}

// guard runs fn, which calls a driver, and turns a panic in it into a
// [*panicError]. Drivers trust the lengths that a server tells them, and what
// answers at an address need not be one.
func guard(fn func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &panicError{cause, panicPlace()}
		}
	}()
	return fn()
}

// panicPlace returns where the panic under way began.
func panicPlace() string {
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers)])
	panicking := false
	for {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if panicking && !inRuntime {
			return fmt.Sprintf("%s:%d", path.Base(frame.File), frame.Line)
		}
		panicking = panicking || frame.Function == "runtime.gopanic"
		if !more {
			return "an unknown place"
		}
	}
}
