package sources

import (
	"net"
	"sync"
)

// sockets are those that a source has open, so that closing it need not wait
// for a server that does not answer. The zero value is ready.
type sockets struct {
	of *sockets // nil, or what they are a part of

	mu   sync.Mutex
	open map[*socket]struct{}
}

// track returns c as a socket that is closed with all the others.
func (s *sockets) track(c net.Conn) net.Conn {
	if s.of != nil {
		c = s.of.track(c)
	}
	tracked := &socket{c, s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*socket]struct{})
	}
	s.open[tracked] = struct{}{}
	return tracked
}

// close closes those that are open.
func (s *sockets) close() {
	s.mu.Lock()
	open := make([]*socket, 0, len(s.open))
	for c := range s.open {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

type socket struct {
	net.Conn
	all *sockets
}

// Close implements [net.Conn].
func (s *socket) Close() error {
	s.all.mu.Lock()
	delete(s.all.open, s)
	s.all.mu.Unlock()
	return s.Conn.Close()
}
