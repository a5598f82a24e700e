package sources

import (
	"context"
	"errors"
	"strings"
	"time"
)

// errNoAnswer is why nothing came of an address that took all of its time.
var errNoAnswer = errors.New("no answer in time")

// eachAddress calls try for one address after the other until one is good, each
// with its part of the time; what comes behind the addresses has that many
// parts too. An address that refuses the login is the last: the others hold the
// same accounts, and may lock one after some attempts.
func eachAddress(ctx context.Context, addresses []string, behind int, try func(context.Context, string) error) error {
	var failed []error
	for i, address := range addresses {
		part, cancel := ctx, context.CancelFunc(func() {})
		left := len(addresses) - i + behind
		if deadline, limited := ctx.Deadline(); limited && left > 1 {
			part, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		}
		err := try(part, address)
		cancel()
		if err == nil {
			return nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil || errors.As(err, new(*loginError)) || errors.As(err, new(*fileError)) {
			break
		}
	}
	return &addressError{failed}
}

// addressError tells, in one line, why none of the addresses of a source that
// were tried will do.
type addressError struct{ failed []error }

func (e *addressError) Error() string {
	texts := make([]string, len(e.failed))
	for i, err := range e.failed {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; then ")
}

func (e *addressError) Unwrap() []error { return e.failed }
