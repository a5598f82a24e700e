package sources

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"sql2metrics/config"
)

// The pause after a refused login: longer than that after a failed connect, as
// servers lock accounts on which logins fail.
const (
	firstLoginPause = 10 * time.Second
	lastLoginPause  = 5 * time.Minute
)

// logins keeps the connections of one account from failing to log in again and
// again. One logs in at a time, so that all queries which meet a password that
// was changed cost one failed login together. After it none is tried until the
// pause is over, or until a file that the login is made of holds something
// else: then a rotation is complete and the next query may try at once.
type logins struct {
	now   func() time.Time
	files []string

	turn    chan struct{} // whoever has put something in may use what follows
	pause   backoff
	refused [sha256.Size]byte // what the files held in the last refused login
}

func newLogins(s config.Source, now func() time.Time) *logins {
	return &logins{
		now:   now,
		files: []string{s.PasswordFile, s.TLS.CertFile, s.TLS.KeyFile, s.TLS.CAFile, s.SentinelPasswordFile},
		turn:  make(chan struct{}, 1),
		pause: backoff{first: firstLoginPause, last: lastLoginPause},
	}
}

// try runs login, which reads the files itself, when it is its turn and unless
// the last one was refused. Other errors of login than a [*loginError] are no
// refusal.
func (l *logins) try(ctx context.Context, login func() error) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l.turn }()
	// The state is taken before the login reads the files: one that changes in
	// between costs one attempt more, and not one that is never made.
	state := l.state()
	if err := l.pause.held(l.now()); err != nil && state == l.refused {
		return err
	}
	err := login()
	switch {
	case err == nil:
		l.pause.end()
	case errors.As(err, new(*loginError)):
		l.pause.fail(l.now(), err)
		l.refused = state
	}
	return err
}

// state stands for what the files hold. One that cannot be read, as while it is
// being replaced, is as good as empty.
func (l *logins) state() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, path := range l.files {
		if path == "" {
			continue
		}
		text, _ := readCredential(path, maxCertificate)
		part := sha256.Sum256(text)
		h.Write(part[:])
	}
	h.Sum(sum[:0])
	return sum
}
