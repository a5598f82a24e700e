package sources_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// nestedMaps are a map that is short, and what a reader that made room for all
// that it announces would need gigabytes for.
var nestedMaps = "%1\r\n+a\r\n" + strings.Repeat("%99999\r\n", 8000)

// A server that lies as it is greeted costs no memory.
func TestRedisGreetingIsCheap(t *testing.T) {
	l := fakeServer(t, func(c net.Conn) { fmt.Fprint(c, nestedMaps); swallow(c) })
	s := open(t, through(t, config.Source{Name: "cache", Type: config.TypeRedis, Timeout: 30 * time.Second}, l))
	allocated := wantLittleMemory(t)
	err := answered(t, s, query("PING"), ignore)
	allocated()
	if !errors.As(err, new(*sources.ConnectError)) {
		t.Errorf("error is %v", err)
	}
}

// An address or a Sentinel that takes connections and says nothing leaves the
// others their part of the time.
func TestRedisFailsOverSilence(t *testing.T) {
	t.Parallel()
	silent := fakeServer(t, swallow).Addr().String()
	r := servers.Redis(t)
	sentinel := servers.Sentinel(t, "main", r)
	for name, change := range map[string]func(*config.Source){
		"address":  func(c *config.Source) { c.Addresses = []string{silent, r.Addr()} },
		"Sentinel": func(c *config.Source) { c.Addresses, c.SentinelMaster = []string{silent, sentinel.Addr()}, "main" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for half of the time
			c := redisSource(r)
			c.Host, c.Port = "", 0
			change(&c)
			if got := read(t, open(t, c), "PING"); !cmp.Equal(got, []string{"PONG"}) {
				t.Errorf("%q", got)
			}
		})
	}
}

// A server that never answers is told of in words that say what to look at.
func TestRedisSilence(t *testing.T) {
	t.Parallel()
	first, second := fakeServer(t, swallow).Addr().String(), fakeServer(t, swallow).Addr().String()
	c := config.Source{Name: "cache", Type: config.TypeRedis, Addresses: []string{first, second}, Timeout: 10 * time.Second}
	err := open(t, c).Query(t.Context(), query("PING"), ignore)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{first + ": no answer in time", "; then " + second + ": no answer in time", "is the port right"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
	if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "closed network") {
		t.Errorf("error is %v", err)
	}
}

// What a server says before it hangs up is the error.
func TestRedisLastWords(t *testing.T) {
	l := fakeServer(t, func(c net.Conn) { fmt.Fprint(c, "-DENIED Redis is running in protected mode\r\n") })
	err := open(t, through(t, config.Source{Name: "cache", Type: config.TypeRedis, Timeout: 30 * time.Second}, l)).Ping(t.Context())
	if err == nil || !strings.Contains(err.Error(), "DENIED Redis is running in protected mode, and hung up") {
		t.Errorf("error is %v", err)
	}
}

// A command that reads and waits is not run either.
func TestRedisCommandThatWaits(t *testing.T) {
	l := fakeServer(t, func(c net.Conn) {
		b := make([]byte, 1000)
		for _, answer := range []string{
			"%0\r\n", "*1\r\n*6\r\n+mod.wait\r\n:-1\r\n*2\r\n+readonly\r\n+blocking\r\n:0\r\n:0\r\n:0\r\n", "+never\r\n",
		} {
			if _, err := c.Read(b); err != nil {
				return
			}
			fmt.Fprint(c, answer)
		}
	})
	s := open(t, through(t, config.Source{Name: "cache", Type: config.TypeRedis, Timeout: 30 * time.Second}, l))
	if err := s.Query(t.Context(), query("MOD.WAIT 7"), ignore); err == nil || !strings.Contains(err.Error(), "MOD.WAIT is not run: it waits") {
		t.Errorf("error is %v", err)
	}
}

// One refused login is one failed login at the server, whatever it speaks.
func TestRedisCountsOneFailedLogin(t *testing.T) {
	for name, test := range map[string]struct {
		settings []servers.Setting
		user     string
		password string
		code     string
	}{
		"wrong password":       {nil, "monitor", "wrong", "WRONGPASS"},
		"default user":         {nil, "", "wrong", "WRONGPASS"},
		"no password":          {nil, "", "", "NOAUTH"},
		"wrong, without HELLO": {[]servers.Setting{`rename-command HELLO ""`}, "monitor", "wrong", "WRONGPASS"},
	} {
		t.Run(name, func(t *testing.T) {
			r := servers.Redis(t, append(test.settings, "user monitor on >right ~* -@all +ping")...)
			r.SetPassword(t, "right")
			r.Exec(t, "CONFIG RESETSTAT")
			c := redisSource(r)
			c.User = test.user
			if test.password != "" {
				c.Password = config.NewSecret(test.password)
			}
			now := time.Now() // the pause after a refused login lasts
			s, err := sources.OpenAt(c, func() time.Time { return now })
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for range 5 {
				err := s.Query(t.Context(), query("PING"), ignore)
				if err == nil || !strings.Contains(err.Error(), test.code) || !strings.Contains(err.Error(), "check user and password") {
					t.Errorf("error is %v", err)
				}
			}
			if got := r.Info(t, "errorstats")["errorstat_"+test.code]; got != "count=1" {
				t.Errorf("the server counts %q", got)
			}
			c.User, c.Password = "monitor", config.NewSecret("right")
			if err := open(t, c).Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A query that has timed out says so, even if its caller has lost patience
// before its script was killed.
func TestRedisTimeoutOutlivesTheCaller(t *testing.T) {
	t.Parallel()
	r := servers.Redis(t, "busy-reply-threshold 4000") // and so the script lives
	p := startProxy(t, r.Addr())
	s := open(t, through(t, redisSource(r), p))
	table(t, s, "EVAL_RO 'return 1' 0") // so that the time goes to the script alone
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q := query(`EVAL_RO "while true do end" 0`)
	q.Timeout = 100 * time.Millisecond
	done := make(chan error, 1)
	go func() { done <- s.Query(ctx, q, ignore) }()
	servers.Eventually(t, "the query has timed out, and its end is connected for", func() bool {
		_, dials := p.counts()
		return dials == 2
	})
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "timed out after 100ms") {
		t.Errorf("error is %v", err)
	}
	servers.Eventually(t, "the script is killed", func() bool { return r.Running(t) == 0 })
}

// A server that is paused in the middle of a script can be asked for nothing,
// and is not waited for as long as one that is busy.
func TestRedisPausedInScript(t *testing.T) {
	t.Parallel()
	r := servers.Redis(t, "busy-reply-threshold 100")
	s := open(t, redisSource(r))
	q := query(`EVAL_RO "while true do end" 0`)
	q.Timeout = 5 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), q.Timeout+scriptPatience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Query(ctx, q, ignore) }()
	servers.Eventually(t, "the script runs", func() bool { return r.Running(t) > 0 })
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	err := <-done
	if err == nil || !strings.Contains(err.Error(), "timed out after 5s") || ctx.Err() != nil {
		t.Errorf("error is %v, of the caller %v", err, ctx.Err())
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	r.Exec(t, "SCRIPT KILL")
}

// scriptPatience is less than the 10 s for which a server that answers is
// waited for, after the limit of the query.
const scriptPatience = 9 * time.Second
