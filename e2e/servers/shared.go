package servers

import (
	"sync"
	"testing"
)

// shared is one server for all tests of a binary: the first that asks starts
// it, TestMain ends it after the last. The zero value is ready.
type shared[S interface{ Remove() error }] struct {
	once    sync.Once
	server  S
	started bool
	err     error
}

func (s *shared[S]) get(tb testing.TB, start func() (S, error)) S {
	tb.Helper()
	s.once.Do(func() {
		s.server, s.err = start()
		s.started = s.err == nil
	})
	if s.err != nil {
		tb.Fatal(s.err)
	}
	return s.server
}

// Remove ends the server if there is one.
func (s *shared[S]) Remove() error {
	if !s.started {
		return nil
	}
	return s.server.Remove()
}
