package sources

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"sql2metrics/config"
)

// TestHTTPJSONReached: what failed at a server that was reached is the query's
// own affair; nothing is known of one whose request was cancelled.
func TestHTTPJSONReached(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	status := func(code int) error { return reworded(&statusError{code: code}, "with another text") }
	for name, test := range map[string]struct {
		ctx              context.Context
		err              error
		reached, refused bool
	}{
		"no connection":  {t.Context(), &ConnectError{"api", io.EOF}, false, false},
		"an error":       {t.Context(), status(http.StatusInternalServerError), true, false},
		"no rights":      {t.Context(), status(http.StatusForbidden), true, false},
		"a wrong login":  {t.Context(), status(http.StatusUnauthorized), false, true},
		"breaks off":     {t.Context(), io.ErrUnexpectedEOF, true, false},
		"late":           {late, context.DeadlineExceeded, true, false},
		"cancelled":      {cancelled, context.Canceled, false, false},
		"cancelled, 401": {cancelled, status(http.StatusUnauthorized), false, false},
	} {
		s := &httpJSON{source: config.Source{Name: "api"}}
		failed, unreached := s.reached(test.ctx, test.err)
		if (failed != nil) != test.reached || (unreached != nil) == test.reached {
			t.Errorf("%s: failed %v, not reached %v", name, failed, unreached)
		}
		if errors.As(unreached, new(*loginError)) != test.refused {
			t.Errorf("%s: %v", name, unreached)
		}
	}
	if failed, unreached := new(httpJSON).reached(t.Context(), nil); failed != nil || unreached != nil {
		t.Errorf("a good answer: %v, %v", failed, unreached)
	}
}
