package sources_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// A result over max_result_bytes ends with an error of its own, leaves the
// server, and does no harm to the query behind it.
func TestResultLimit(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, _ sources.Source) {
		d.config.MaxResultBytes = 4000
		s := open(t, d.config)
		rows := 0
		err := s.Query(t.Context(), query(fmt.Sprintf(d.series, 100000)), func(*sources.Row) error { rows++; return nil })
		if err == nil || rows > 1000 || errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "max_result_bytes") {
			t.Fatalf("%d rows, error %v", rows, err)
		}
		wantOnce(t, err, d.config.Name)
		wantIdle(t, d)
		if got := read(t, s, fmt.Sprintf(d.series, 2)); !cmp.Equal(got, []string{"1", "2"}) {
			t.Errorf("the next query gives %v", got)
		}
	})
}

// Who has had enough of a result, as at a row_limit, has the server stop: it is
// not read to its end.
func TestStoppedResultIsNotReadToItsEnd(t *testing.T) {
	eachServer(t, func(t *testing.T, d database) {
		if d.config.Type == config.TypeRedis || d.config.Type == config.TypeHTTPJSON {
			return // the whole of a reply is there before its first row
		}
		d.config.MaxResultBytes, d.config.Compression = 64<<20, "none"
		many := 10_000_000_000 // take hours
		whole := d.config.Protocol == config.ProtocolHTTP
		if whole { // the server has all before it says anything, and is left with it
			many = 3_000_000
		}
		p := &lossy{target: net.JoinHostPort(d.config.Host, fmt.Sprint(d.config.Port)), after: math.MaxInt64}
		s := open(t, through(t, d.config, fakeServer(t, p.serve)))
		enough := errors.New("enough")
		rows := 0
		err := answered(t, s, unending(fmt.Sprintf(d.wide, many)), func(*sources.Row) error {
			if rows++; rows > 10 {
				return enough
			}
			return nil
		})
		if err != enough {
			t.Errorf("error is %v", err)
		}
		wantIdle(t, d)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if read := p.read(t); whole && read > 48<<20 {
			t.Errorf("%d MiB were read for 10 rows", read>>20)
		}
	})
}

// The options are told of every connection, and that none is left.
func TestConnectionsAreCounted(t *testing.T) {
	eachServer(t, func(t *testing.T, d database) {
		if d.config.Type == config.TypeHTTPJSON {
			return // it has no pool: net/http keeps its connections
		}
		var (
			mu     sync.Mutex
			opened int
			now    = map[sources.ConnectionState]int{}
			most   int
		)
		d.config.MaxConnections = 2
		s, err := sources.Open(d.config, sources.Options{
			Opened: func() {
				mu.Lock()
				defer mu.Unlock()
				opened++
			},
			Connections: func(state sources.ConnectionState, by int) {
				mu.Lock()
				defer mu.Unlock()
				now[state] += by
				most = max(most, now[sources.ConnectionBusy])
				if now[state] < 0 {
					t.Errorf("%d connections are %s", now[state], state)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for range 4 {
					if err := s.Query(t.Context(), query(d.types), ignore); err != nil {
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		mu.Lock()
		idle := now[sources.ConnectionIdle]
		mu.Unlock()
		if idle < 1 || idle != opened || most > 2 {
			t.Errorf("%d connections opened, %d idle, %d busy at once", opened, idle, most)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if now[sources.ConnectionIdle] != 0 || now[sources.ConnectionBusy] != 0 {
			t.Errorf("after Close there are %v", now)
		}
	})
}

// A password that the server refuses is tried once, however many queries want
// to log in, and again when the file it is in holds another one.
func TestRefusedLoginsAreNotRepeated(t *testing.T) {
	eachServer(t, func(t *testing.T, d database) {
		if d.config.Type == config.TypeHTTPJSON {
			return // each request logs in: see TestHTTPJSONLogins
		}
		p := startProxy(t, net.JoinHostPort(d.config.Host, fmt.Sprint(d.config.Port)))
		c := through(t, d.config, p)
		c.MaxConnections = 5
		c.User, c.Password, c.PasswordFile = "nobody", config.Secret{}, tempFile(t, []byte("guess"))
		now := time.Now() // the pause lasts
		s, err := sources.OpenAt(c, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for want := 1; want <= 3; want++ {
			var callers sync.WaitGroup
			for range 20 {
				callers.Go(func() {
					err := s.Query(t.Context(), query(d.empty), ignore)
					if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "check user") {
						t.Errorf("error is %v", err)
					}
				})
			}
			callers.Wait()
			if _, dials := p.counts(); dials != want {
				t.Errorf("%d logins, want %d", dials, want)
			}
			if err := os.WriteFile(c.PasswordFile, fmt.Append(nil, "guess ", want), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The wait for a connection is bounded by the query's timeout, but no part of
// it: it has an error of its own.
func TestBusyConnections(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database, _ sources.Source) {
		d.config.MaxConnections = 1
		var waits []time.Duration
		s, err := sources.Open(d.config, sources.Options{Waited: func(d time.Duration) { waits = append(waits, d) }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		err = s.Query(t.Context(), query(d.types), func(*sources.Row) error {
			q := query(d.types)
			q.Timeout = 10 * time.Millisecond
			err := s.Query(t.Context(), q, ignore)
			if !errors.As(err, new(*sources.BusyError)) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "raise max_connections") {
				t.Errorf("error is %v", err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if len(waits) != 1 {
			t.Errorf("told of waits of %v, want one", waits)
		}
	})
}
