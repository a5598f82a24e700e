package sources_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"sql2metrics/sources"
)

// TestHTTPJSONEndsAmongRows: what ends a query ends it between two rows as well,
// long after the server has sent its answer.
func TestHTTPJSONEndsAmongRows(t *testing.T) {
	const all = 100_000
	server := served(t, func(*http.Request) string {
		return `{"hits":[` + strings.Repeat(`{"n":1},`, all) + `{}]}`
	})
	// query asks for all rows, and runs first with the first of them. It takes its
	// time for the others, as it may be a while until the query hears of its end.
	query := func(ctx context.Context, s sources.Source, timeout time.Duration, first func()) (rows int, err error) {
		q := ask("GET", "hits", "n")
		q.Timeout = timeout
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		err = s.Query(ctx, q, func(*sources.Row) error {
			if rows++; rows == 1 {
				first()
			} else if rows%10 == 0 {
				<-pace.C
			}
			return nil
		})
		return rows, err
	}
	wantUpTo := func(t *testing.T, most, rows int) {
		t.Helper()
		if rows == 0 || rows > most {
			t.Errorf("%d rows, want %d at most", rows, most)
		}
	}
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		rows, err := query(ctx, open(t, apiAt(t, server.URL)), time.Minute, cancel)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		wantUpTo(t, 1000, rows)
	})
	t.Run("timeout", func(t *testing.T) {
		sources.Patiently(time.Second, func(timeout time.Duration) (tooEarly bool) {
			rows, err := query(t.Context(), open(t, apiAt(t, server.URL)), timeout, func() {
				// It began after the query's, and so ends after that.
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				<-ctx.Done()
			})
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), timeout.String()) {
				t.Error(err)
			}
			if rows == 0 && timeout < time.Minute {
				return true
			}
			wantUpTo(t, all, rows)
			return false
		})
	})
	t.Run("close", func(t *testing.T) {
		s := open(t, apiAt(t, server.URL))
		closed := make(chan error, 1)
		rows, err := query(t.Context(), s, time.Minute, func() {
			go func() { closed <- s.Close() }()
			for !errors.Is(s.Ping(t.Context()), sources.ErrClosed) {
				runtime.Gosched()
			}
		})
		wantUpTo(t, all, rows)
		if !errors.Is(err, sources.ErrClosed) {
			t.Error(err)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// A panic while an answer is read ends the query and not the process.
func TestHTTPJSONPanics(t *testing.T) {
	server := served(t, func(*http.Request) string { return "[1]" })
	err := open(t, apiAt(t, server.URL)).Query(t.Context(), ask("GET", "", "v=@this"), func(*sources.Row) error { panic("out of range") })
	if err == nil || !strings.Contains(err.Error(), "out of range") {
		t.Error(err)
	}
}
