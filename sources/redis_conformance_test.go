package sources_test

import (
	"fmt"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
)

// sharedRedis is the server of the tests that need not stop one.
var sharedRedis servers.SharedRedis

func redisSource(r *servers.RedisServer) config.Source {
	return config.Source{Name: "cache", Type: config.TypeRedis, Host: r.Host, Port: r.Port, MaxConnections: 2, Timeout: 10 * time.Second}
}

func redisDatabase(t testing.TB) database {
	r := sharedRedis.Get(t)
	r.Exec(t, "FLUSHALL", "RPUSH kept 1 2", "SET slow:a 1", "SET slow:b 1")
	// A pattern gives its rows key by key, in the order in which the server
	// names them.
	keys := r.Do(t, "SCAN", "0", "MATCH", "slow:*").([]any)[1].([]any)
	return database{
		config:   redisSource(r),
		series:   `EVAL_RO "local rows = {} for n = 1, %d do rows[n] = {map={n=n}} end return rows" 0`,
		fails:    `EVAL_RO "local rows = {} for n = 1, 10 do rows[n] = {n, 'x', n == 5 and redis.error_reply('ERR five') or n} end return rows" 0`,
		slow:     `EVAL_RO "while true do end" 0`,
		slowRows: fmt.Sprintf(`EVAL_RO "while KEYS[1] == '%s' do end return {{1, 2, 3}}" 1 MATCH slow:*`, keys[1]),
		empty:    "SMEMBERS nothing",
		types:    `EVAL_RO "return {{7, {double=1.5}, 'word', false}}" 0`,
		writes: []string{
			"RPUSH kept 3",
			"SET made 1",
			"FLUSHALL",
			"CONFIG SET maxmemory 1",
			`EVAL "redis.call('RPUSH', 'kept', 3)" 0`,
			`EVAL_RO "redis.call('RPUSH', 'kept', 3)" 0`,
			"DEL kept",
			"DEL MATCH *",
			"SCRIPT FLUSH",
			"DEBUG SET-ACTIVE-EXPIRE 0",
			"MULTI",
			"SORT kept STORE made",
			"GETDEL kept",
			"RESTORE made 0 x",
			"FUNCTION FLUSH",
			"SHUTDOWN",
		},
		second:  "LLEN kept; LLEN kept",
		wide:    `EVAL_RO "local rows = {} for n = 1, %d do rows[n] = {n, {double=n}, {double=n/4}, tostring(n)} end return rows" 0`,
		boxed:   1, // for a text
		count:   "LLEN kept",
		session: []string{"MULTI", "SELECT 5", "RESET", "AUTH other", "READONLY", "HELLO 2", "CLIENT REPLY OFF", "SUBSCRIBE news"},
		pass:    []string{"RPUSH kept 9", "RPOP kept"},
		exec:    r.Exec,
		kept: func(t testing.TB) string {
			return fmt.Sprint(r.Do(t, "LRANGE", "kept", 0, -1), r.Do(t, "DBSIZE"), r.Do(t, "CONFIG", "GET", "maxmemory"))
		},
		running: r.Running,
	}
}

func privateRedis(t testing.TB) private {
	// The account comes with the server: a kill takes all that it was told later.
	r := servers.Redis(t, "user reader on >"+firstPassword+" ~* -@all +ping +command|info +eval_ro +script|kill", "busy-reply-threshold 100")
	c := redisSource(r)
	c.User, c.Password = "reader", config.NewSecret(firstPassword)
	return private{
		config:  c,
		address: r.Addr(),
		kill:    r.Stop, start: r.Start, pause: r.Pause, resume: r.Resume,
		row: "PING",
		// The server looks at the time, and may say that it is busy, each 100,000
		// instructions.
		nap:  `EVAL_RO "for i = 1, 100 do string.rep('x', 200) end" 0`,
		slow: `EVAL_RO "while true do end" 0`,
		setPassword: func(t testing.TB, password string) {
			r.Do(t, "ACL", "SETUSER", "reader", "resetpass", ">"+password)
		},
		connections: func(t testing.TB) int { return r.Connections(t, application) },
		running:     r.Running,
	}
}
