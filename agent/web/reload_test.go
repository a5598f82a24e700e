package web

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

// A reload is asked for, and answered, in Prometheus's words.
func TestReload(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		state  state
		status int
		answer string
	}{
		"done":          {http.MethodPost, state{ready: true, reload: reloaded(nil)}, http.StatusOK, "sql2metrics has reloaded its configuration.\n"},
		"done by PUT":   {http.MethodPut, state{ready: true, reload: reloaded(nil)}, http.StatusOK, "sql2metrics has reloaded its configuration.\n"},
		"not valid":     {http.MethodPost, state{ready: true, reload: reloaded(errors.New("line 3"))}, http.StatusInternalServerError, "failed to reload config: line 3\n"},
		"not enabled":   {http.MethodPost, state{ready: true}, http.StatusForbidden, "Lifecycle API is not enabled.\n"},
		"not asked for": {http.MethodGet, state{ready: true, reload: reloaded(nil)}, http.StatusMethodNotAllowed, "Only POST or PUT requests allowed.\n"},
		"not ready":     {http.MethodPost, state{reload: reloaded(nil)}, http.StatusServiceUnavailable, "sql2metrics is not ready: it is starting or stopping, or another process has the log's folder\n"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := request(t, c.method, serve(t, &c.state, "")+"/-/reload", func(*http.Request) {})
			if status != c.status || answer != c.answer {
				t.Errorf("%d %q, want %d %q", status, answer, c.status, c.answer)
			}
		})
	}
}

func reloaded(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}
