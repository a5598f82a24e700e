package remotewrite

import (
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/sigv4"
)

// signing signs requests for AWS. It looks for credentials with the first
// request and not before, because they may be a network away: an agent starts,
// collects and waits when they cannot be had.
type signing struct {
	config *sigv4.SigV4Config
	next   http.RoundTripper
	signer atomic.Pointer[http.RoundTripper]
}

// RoundTrip implements [http.RoundTripper].
func (s *signing) RoundTrip(r *http.Request) (*http.Response, error) {
	signer := s.signer.Load()
	if signer == nil {
		made, err := sigv4.NewSigV4RoundTripper(s.config, s.next, sigv4.WithContext(r.Context()))
		if err != nil {
			return nil, fmt.Errorf("sign for AWS: %w; check sigv4 of this remote_write, or the environment it leaves it to", err)
		}
		signer = &made
		s.signer.Store(signer)
	}
	return (*signer).RoundTrip(r)
}

// CloseIdleConnections lets [http.Client] close those of next.
func (s *signing) CloseIdleConnections() {
	if next, ok := s.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}
