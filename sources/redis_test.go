package sources_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// documentedRedis returns what docs/redis.md says: the command that makes the
// account, and every query of an example.
func documentedRedis(t *testing.T) (account string, queries []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "ACL SETUSER ") {
			account = line
		}
		if _, query, found := strings.Cut(line, "query: "); found {
			queries = append(queries, strings.Trim(query, `"}`))
		}
		if query, isExample := strings.CutPrefix(line, "| `"); isExample && strings.Contains(line, " MATCH ") {
			query, _, _ = strings.Cut(query, "` |")
			queries = append(queries, query)
		}
	}
	if account == "" || len(queries) < 8 {
		t.Fatalf("docs/redis.md has the account %q and the queries %q", account, queries)
	}
	return account, queries
}

// redisAs returns a source that logs in with an account.
func redisAs(r *servers.RedisServer, user, password string) config.Source {
	c := redisSource(r)
	c.User, c.Password = user, config.NewSecret(password)
	return c
}

// The account that is documented is enough, for connecting too: nothing of ours
// is refused, and so nothing stands in the server's own statistics of errors.
func TestRedisAccount(t *testing.T) {
	r := servers.Redis(t, "busy-reply-threshold 100")
	account, examples := documentedRedis(t)
	r.Exec(t, account, "RPUSH queue 1 2", "RPUSH queue:a 1", "HSET user:1 age 7", "SET lock:a 1", "CONFIG RESETSTAT")
	c := redisAs(r, "monitor", "secret")
	s := open(t, c)
	for range 3 {
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		for _, command := range append(examples,
			"CONFIG GET maxclients", "SLOWLOG LEN", "SLOWLOG GET 1", "LATENCY LATEST", "LATENCY HISTOGRAM", "LATENCY HISTORY command",
			"MEMORY STATS", "MEMORY USAGE queue", "DBSIZE", "CLIENT LIST", "CLIENT INFO", "LLEN queue", "LLEN MATCH que* TYPE list",
			"EVAL_RO 'return 1' 0", "TIME",
		) {
			table(t, s, command)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s = open(t, c)
	}
	if errs := r.Info(t, "errorstats"); len(errs) > 0 {
		t.Errorf("the server counts errors: %v", errs)
	}
	if err := s.Query(t.Context(), query("SMEMBERS tags"), ignore); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("error is %v", err)
	}
	q := query(`EVAL_RO "while true do end" 0`)
	q.Timeout = 200 * time.Millisecond
	if err := s.Query(t.Context(), q, ignore); err == nil || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("error is %v", err)
	}
	servers.Eventually(t, "the script is killed", func() bool { return r.Running(t) == 0 })
	r.Exec(t, "ACL SETUSER monitor -command|info")
	if err := open(t, c).Query(t.Context(), query("LLEN queue"), ignore); err == nil || !strings.Contains(err.Error(), "+command|info") {
		t.Errorf("error is %v", err)
	}
}

func TestRedisIsKnownByName(t *testing.T) {
	eachRESP(t, func(t *testing.T, r *servers.RedisServer, s sources.Source) {
		table(t, s, "PING")
		if n := r.Connections(t, "sql2metrics"); n != 1 {
			t.Errorf("%d connections have our name", n)
		}
	})
}

// What the server does not flag as read-only, what waits, and what would change
// the connection is refused before it is sent: the server counts no call.
func TestRedisSendsOnlyWhatReads(t *testing.T) {
	r := servers.Redis(t)
	r.Exec(t, "RPUSH kept 1", "SET k v", "CONFIG RESETSTAT")
	s := open(t, redisSource(r))
	refused := []string{
		"SET k w", "DEL k", "FLUSHALL", "FLUSHDB", "CONFIG SET maxmemory 1", "CONFIG RESETSTAT", "CONFIG REWRITE", "EVAL 'return 1' 0", "EVALSHA x 0",
		"SCRIPT LOAD 'return 1'", "SCRIPT KILL", "DEBUG SLEEP 1", "MULTI", "EXEC", "DISCARD", "WATCH k", "SUBSCRIBE c", "PSUBSCRIBE c", "SSUBSCRIBE c", "MONITOR",
		"BLPOP kept 0", "BRPOP kept 0", "BLMOVE kept k LEFT LEFT 0", "BZPOPMIN z 0", "WAIT 1 0", "XREAD STREAMS s 0", "XREAD BLOCK 0 STREAMS s $",
		"XREADGROUP GROUP g c STREAMS s >", "KEYS *", "SELECT 1", "SWAPDB 0 1", "AUTH x", "HELLO 2", "RESET", "QUIT", "CLIENT KILL ID 1", "CLIENT PAUSE 1000",
		"CLIENT SETNAME x", "CLIENT REPLY OFF", "CLIENT NO-EVICT ON", "CLIENT TRACKING ON", "SHUTDOWN", "BGSAVE", "SAVE", "BGREWRITEAOF", "REPLICAOF a 1",
		"FAILOVER", "SYNC", "PSYNC ? -1", "ACL SETUSER x", "ACL LOG RESET", "SLOWLOG RESET", "LATENCY RESET", "MEMORY PURGE", "MODULE LOAD x", "FUNCTION FLUSH",
		"FCALL f 0", "GETEX k PERSIST", "GETDEL k", "GETSET k w", "EXPIRE k 1", "PERSIST k", "SORT kept STORE made", "PUBLISH c m", "CLUSTER RESET", "CLUSTER FAILOVER",
		"RESTORE m 0 x", "MIGRATE h 1 k 0 1", "COPY k m", "RENAME k m", "OBJECT FREQUENTLY k", "NOSUCH", "SORT kept", "SPUBLISH c m", "ASKING", "READONLY",
		"PFCOUNT unique", "TOUCH k",
	}
	for _, command := range refused {
		if err := s.Query(t.Context(), query(command), ignore); err == nil {
			t.Errorf("%s: no error", command)
		}
	}
	for field := range r.Info(t, "commandstats") {
		name, _, _ := strings.Cut(strings.TrimPrefix(field, "cmdstat_"), "|")
		if !slices.Contains([]string{"hello", "command", "info", "client", "config", "ping"}, name) {
			t.Errorf("the server was sent %s", name)
		}
	}
	if calls := r.Info(t, "commandstats"); calls["cmdstat_client|kill"] != "" || calls["cmdstat_config|set"] != "" {
		t.Errorf("the server was sent %v", calls)
	}
	if got := fmt.Sprint(r.Do(t, "LRANGE", "kept", 0, -1), r.Do(t, "GET", "k"), r.Do(t, "DBSIZE")); got != "[1]v2" {
		t.Errorf("the server holds %s", got)
	}
}

// A script that writes is refused by the server, and so is one that writes
// behind an account's back.
func TestRedisScriptsCannotWrite(t *testing.T) {
	r := sharedRedis.Get(t)
	r.Exec(t, "FLUSHALL", "SET k v")
	s := open(t, redisSource(r))
	for _, script := range []string{
		`redis.call("SET", "k", "w")`, `redis.pcall("SET", "k", "w") return 1`, `redis.call("FLUSHALL")`, `redis.call("CONFIG", "SET", "maxmemory", "1")`,
	} {
		_ = s.Query(t.Context(), query("EVAL_RO '"+script+"' 0"), ignore)
	}
	if got := fmt.Sprint(r.Do(t, "GET", "k"), r.Do(t, "CONFIG", "GET", "maxmemory")); got != "v[maxmemory 0]" {
		t.Errorf("the server holds %s", got)
	}
}

func TestRedisPatterns(t *testing.T) {
	r := servers.Redis(t)
	s := open(t, redisSource(r))
	var want []string
	for i := range 2500 {
		key := fmt.Sprintf("queue:%04d", i)
		r.Do(t, "RPUSH", key, "a", "b")
		want = append(want, key+"|2")
	}
	r.Exec(t, "SET queue:text x", "HSET h:1 a 1 b 2", "HSET h:2 a 3")
	sorted := func(command string) []string {
		rows := table(t, s, command)
		if len(rows) > 0 {
			slices.Sort(rows[1:])
		}
		return rows
	}
	for command, want := range map[string][]string{
		"LLEN MATCH queue:* TYPE list":                append([]string{"key|value"}, want...),
		"LLEN MATCH queue:00[01]1":                    {"key|value", "queue:0001|2", "queue:0011|2"},
		"LLEN MATCH nothing:*":                        nil,
		"HGETALL MATCH h:*":                           {"key|field|value", "h:1|a|1", "h:1|b|2", "h:2|a|3"},
		"HMGET MATCH h:* a b":                         {"key|field|value", "h:1|a|1", "h:1|b|2", "h:2|a|3", "h:2|b|"},
		"EVAL_RO 'return {{KEYS[1], 7}}' 1 MATCH h:*": {"key|column1|column2", "h:1|h:1|7", "h:2|h:2|7"},
		"SCAN MATCH h:*":                              {"key", "h:1", "h:2"},
		"SCAN MATCH * TYPE string":                    {"key", "queue:text"},
		"DBSIZE MATCH queue:*":                        {"value", "2501"},
		"DBSIZE MATCH queue:* TYPE list LIMIT 2500":   {"value", "2500"},
		"DBSIZE MATCH none":                           {"value", "0"},
		"MEMORY USAGE MATCH none":                     nil,
	} {
		if diff := cmp.Diff(want, sorted(command)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", command, diff[:min(len(diff), 400)])
		}
	}
	for command, want := range map[string]string{
		"LLEN MATCH queue:*":                      "key queue:text: server answered: WRONGTYPE",
		"LLEN MATCH queue:* TYPE list LIMIT 2499": "pattern queue:* matches more than 2499 keys",
		"SCAN MATCH queue:* LIMIT 1":              "matches more than 1 keys",
		"DEL MATCH queue:*":                       "DEL is not run",
	} {
		err := s.Query(t.Context(), query(command), ignore)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", command, err, want)
		}
	}
	stop := errors.New("enough")
	if err := s.Query(t.Context(), query("SCAN MATCH *"), func(*sources.Row) error { return stop }); err != stop {
		t.Error(err)
	}
	if got := sorted("DBSIZE MATCH h:*"); len(got) != 2 {
		t.Error(got)
	}
}

// A pattern has every key looked at, so there is an end to how many.
func TestRedisPatternOverHugeDatabase(t *testing.T) {
	r := servers.Redis(t)
	r.Do(t, "DEBUG", "POPULATE", 1_100_000, "key", 1)
	s := open(t, redisSource(r))
	err := s.Query(t.Context(), query("DBSIZE MATCH none:*"), ignore)
	if err == nil || !strings.Contains(err.Error(), "more than 1000000 keys to look at") {
		t.Errorf("error is %v", err)
	}
}

// While another's script keeps the server busy, ours is refused or waits: what
// is killed is never theirs.
func TestRedisKillsNoOthersScript(t *testing.T) {
	r := servers.Redis(t, "busy-reply-threshold 700")
	s := open(t, redisSource(r))
	table(t, s, "EVAL_RO 'return 1' 0") // so that nothing but the script itself is left to ask
	// It may be over before ours comes.
	servers.Eventually(t, "ours meets their script", func() bool {
		var theirs any
		over := make(chan struct{})
		go func() {
			defer close(over)
			theirs = r.Do(t, "EVAL", `local function now() local t = redis.call('TIME') return t[1] + t[2] / 1e6 end
				local start = now() while now() < start + 2 do end return 'done'`, 0)
		}()
		q := query("EVAL_RO 'return 2' 0")
		q.Timeout = 50 * time.Millisecond
		met := false
		for running := true; running && !met; {
			met = s.Query(t.Context(), q, ignore) != nil
			select {
			case <-over:
				running = false
			default:
			}
		}
		<-over
		if theirs != "done" {
			t.Errorf("their script returns %v", theirs)
		}
		return met
	})
	servers.Eventually(t, "ours runs again", func() bool { return s.Query(t.Context(), query("EVAL_RO 'return 3' 0"), ignore) == nil })
}

func TestRedisResultLimit(t *testing.T) {
	r := sharedRedis.Get(t)
	c := redisSource(r)
	c.MaxResultBytes = 3000
	s := open(t, c)
	r.Do(t, "SET", "long", strings.Repeat("x", 5000))
	for _, command := range []string{"GET long", `EVAL_RO "local rows = {} for n = 1, 1000 do rows[n] = n end return rows" 0`} {
		err := s.Query(t.Context(), query(command), ignore)
		if err == nil || errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "limit of 3000 bytes") {
			t.Errorf("%s: error is %v", command, err)
		}
		if got := read(t, s, "PING"); !cmp.Equal(got, []string{"PONG"}) {
			t.Error(got)
		}
	}
}

func TestRedisGates(t *testing.T) {
	t.Parallel()
	master, replica := servers.Redis(t), servers.Redis(t)
	replica.Do(t, "REPLICAOF", master.Host, master.Port)
	atLeast := func(major int) config.VersionRange {
		return config.VersionRange{Bounds: []config.VersionBound{{Operator: ">=", Parts: []int{major}}}}
	}
	for name, test := range map[string]struct {
		server   *servers.RedisServer
		requires config.Requires
		want     string // part of the error
	}{
		"primary":          {master, config.Requires{Role: config.RolePrimary}, ""},
		"no replica":       {master, config.Requires{Role: config.RoleReplica}, "role replica, and the server is a primary"},
		"replica":          {replica, config.Requires{Role: config.RoleReplica}, ""},
		"no such module":   {master, config.Requires{Extensions: []string{"bloom"}}, "extension bloom, which is not installed"},
		"version":          {master, config.Requires{Version: atLeast(6)}, ""},
		"version too high": {master, config.Requires{Version: atLeast(99)}, "server_version >=99, and the server has "},
	} {
		t.Run(name, func(t *testing.T) {
			q := query("PING")
			q.Requires = test.requires
			err := open(t, redisSource(test.server)).Query(t.Context(), q, ignore)
			if test.want == "" && err != nil || test.want != "" && (!errors.As(err, new(*sources.NotApplicableError)) || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error is %v, want %s", err, test.want)
			}
		})
	}
}
