package sources_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// table is a result as text: the columns, then each row.
func table(t testing.TB, s sources.Source, command string) []string {
	t.Helper()
	var lines []string
	err := s.Query(t.Context(), query(command), func(r *sources.Row) error {
		if lines == nil {
			lines = append(lines, strings.Join(r.Columns, "|"))
		}
		lines = append(lines, line(r))
		return nil
	})
	if err != nil {
		t.Errorf("%s: %v", command, err)
	}
	return lines
}

// eachRESP runs test on a server that speaks RESP3 and on one that does not.
func eachRESP(t *testing.T, test func(*testing.T, *servers.RedisServer, sources.Source)) {
	for name, settings := range map[string][]servers.Setting{
		"RESP3": nil,
		"RESP2": {`rename-command HELLO ""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := servers.Redis(t, append(settings, "busy-reply-threshold 100")...)
			test(t, r, open(t, redisSource(r)))
		})
	}
}

// Every reply has the same rows under both versions of the protocol.
func TestRedisRows(t *testing.T) {
	eachRESP(t, func(t *testing.T, r *servers.RedisServer, s sources.Source) {
		r.Exec(t, "SET counter 42", "SET word hello", "RPUSH queue a b c", "SADD tags x", "HSET user name ann age 7",
			"ZADD board 1 ann 2.5 bob", "PFADD unique 1 2 3", "SET bits \x01\xff",
			"XADD events 1-1 kind start load 0.5", "XADD events 2-1 load 0.7 kind stop extra 1",
			"XGROUP CREATE events readers 0", "XREADGROUP GROUP readers r1 COUNT 1 STREAMS events >")
		for command, want := range map[string][]string{
			"GET counter":                           {"value", "42"},
			"get nothing":                           {"value", ""},
			"LLEN queue":                            {"value", "3"},
			"EXISTS queue tags none":                {"value", "2"},
			"STRLEN 'word'":                         {"value", "5"},
			"HLEN user":                             {"value", "2"},
			"GETRANGE word 1 2":                     {"value", "el"},
			`GET "b\x69ts"`:                         {"value", "\x01\xff"},
			"ZSCORE board bob":                      {"value", "2.5"},
			"ZCOUNT board -inf +inf":                {"value", "2"},
			"TYPE queue":                            {"value", "list"},
			"DBSIZE":                                {"value", "9"},
			"PING":                                  {"value", "PONG"},
			"ACL WHOAMI":                            {"value", "default"},
			"SLOWLOG LEN":                           {"value", "0"},
			"MEMORY USAGE nothing":                  {"value", ""},
			"OBJECT ENCODING counter":               {"value", "int"},
			"PUBSUB NUMPAT":                         {"value", "0"},
			"LRANGE queue 0 -1":                     {"index|value", "0|a", "1|b", "2|c"},
			"LRANGE nothing 0 -1":                   nil,
			"ZRANGE board 0 -1":                     {"index|value", "0|ann", "1|bob"},
			"HKEYS user":                            {"index|value", "0|name", "1|age"},
			"SMEMBERS tags":                         {"member", "x"},
			"SINTER tags tags":                      {"member", "x"},
			"HGETALL user":                          {"field|value", "name|ann", "age|7"},
			"HGETALL nothing":                       nil,
			"HMGET user age none":                   {"field|value", "age|7", "none|"},
			"MGET counter word queue":               {"key|value", "counter|42", "word|hello", "queue|"},
			"SMISMEMBER tags x y":                   {"member|value", "x|1", "y|0"},
			"ZMSCORE board bob none":                {"member|score", "bob|2.5", "none|"},
			"XLEN events":                           {"value", "2"},
			"XRANGE events - +":                     {"id|kind|load", "1-1|start|0.5", "2-1|stop|0.7"},
			"XINFO GROUPS events":                   {"name|consumers|pending|last-delivered-id|entries-read|lag", "readers|1|1|1-1|1|1"},
			"XPENDING events readers":               {"consumer|pending", "r1|1"},
			"PUBSUB NUMSUB news":                    {"field|value", "news|0"},
			"PUBSUB CHANNELS":                       nil,
			"CONFIG GET maxclients":                 {"maxclients", "10000"},
			"CONFIG GET requirepass":                {"requirepass", ""},
			"LATENCY LATEST":                        nil,
			"SLOWLOG GET":                           nil,
			"SORT_RO queue ALPHA DESC":              {"index|value", "0|c", "1|b", "2|a"},
			"ZRANGE board 0 -1 WITHSCORES":          {"member|score", "ann|1", "bob|2.5"},
			"ZREVRANGEBYSCORE board 9 2 WITHSCORES": {"member|score", "bob|2.5"},
			"ZUNION 1 board WITHSCORES":             {"member|score", "ann|1", "bob|2.5"},
			"EVAL_RO 'return {1, 2}' 0":             {"index|value", "0|1", "1|2"},
			"EVAL_RO 'return redis.call(\"LLEN\", KEYS[1])' 1 queue":  {"value", "3"},
			"EVAL_RO 'return {{\"a\", 1}, {\"b\"}, {\"c\", 3, 4}}' 0": {"column1|column2", "a|1", "b|", "c|3"},
		} {
			if diff := cmp.Diff(want, table(t, s, command)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", command, diff)
			}
		}
	})
}

// What changes from run to run is held by its columns.
func TestRedisColumns(t *testing.T) {
	eachRESP(t, func(t *testing.T, r *servers.RedisServer, s sources.Source) {
		r.Exec(t, "CONFIG SET slowlog-log-slower-than 0 latency-monitor-threshold 1", "SET k v", "HSET h a 1", "DEBUG SLEEP 0.01", "LPUSH q 1",
			"XADD events 1-1 a b", "XGROUP CREATE events g 0", "XREADGROUP GROUP g c1 STREAMS events >")
		for command, want := range map[string]string{
			"HRANDFIELD h -1 WITHVALUES": "field|value",
			"TIME":                       "seconds|microseconds",
			"SLOWLOG GET 3":              "id|timestamp|duration|command|client|name",
			"LATENCY LATEST":             "event|timestamp|latency|max",
			"LATENCY HISTORY command":    "timestamp|latency",
			"LATENCY HISTOGRAM set":      "command|calls|usec|count",
			"XINFO CONSUMERS events g":   "name|pending|idle",
			"XPENDING events g - + 9":    "id|consumer|idle|deliveries",
		} {
			if got := table(t, s, command); len(got) < 2 || got[0] != want {
				t.Errorf("%s: %q", command, got)
			}
		}
		for command, want := range map[string][]string{
			"CLIENT LIST":         {"id", "addr", "name", "age", "idle", "db", "cmd"},
			"CLIENT INFO":         {"id", "name", "resp"},
			"MEMORY STATS":        {"peak.allocated", "total.allocated", "keys.count", "db.0.overhead.hashtable.main", "fragmentation"},
			"XINFO STREAM events": {"length", "groups", "first-entry", "last-generated-id"},
		} {
			got := table(t, s, command)
			if len(got) != 2 {
				t.Errorf("%s: %q", command, got)
				continue
			}
			for _, w := range want {
				if !strings.Contains("|"+got[0]+"|", "|"+w+"|") {
					t.Errorf("%s: no column %s in %s", command, w, got[0])
				}
			}
		}
	})
}

// INFO has a row of its plain fields, and rows of what has fields of its own.
func TestRedisInfo(t *testing.T) {
	eachRESP(t, func(t *testing.T, r *servers.RedisServer, s sources.Source) {
		r.Exec(t, "CONFIG RESETSTAT", "SET k v", "SET gone v EX 1000", "GET k", "GET k")
		if err := s.Query(t.Context(), query("LPOS k x"), ignore); err == nil {
			t.Error("no error")
		}
		rows := map[string]map[string]string{} // by the row's name
		var columns []string
		err := s.Query(t.Context(), query("INFO ALL"), func(row *sources.Row) error {
			if columns != nil && &columns[0] != &row.Columns[0] {
				t.Error("another slice of columns")
			}
			columns = row.Columns
			cells, name := map[string]string{}, ""
			for i, v := range row.Values {
				if v.IsNull() {
					continue
				}
				cells[row.Columns[i]] = string(v.AppendText(nil))
				switch row.Columns[i] {
				case "db", "cmd", "err", "slave":
					name += row.Columns[i] + " " + cells[row.Columns[i]]
				}
			}
			if cells["p50"] != "" {
				name += " latency"
			}
			rows[name] = cells
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"redis_version", "connected_clients", "used_memory", "role", "total_commands_processed", "uptime_in_seconds"} {
			if rows[""][field] == "" {
				t.Errorf("no %s in the row of plain fields", field)
			}
		}
		if got := rows["cmd get"]; got["calls"] != "2" || got["usec_per_call"] == "" || got["failed_calls"] != "0" {
			t.Errorf("cmdstat_get is %v", got)
		}
		if got := rows["cmd get latency"]; got["p99.9"] == "" {
			t.Errorf("latency_percentiles_usec_get is %v", got)
		}
		if diff := cmp.Diff(map[string]string{"err": "WRONGTYPE", "count": "1"}, rows["err WRONGTYPE"]); diff != "" {
			t.Error(diff)
		}
		delete(rows["db db0"], "avg_ttl")
		if diff := cmp.Diff(map[string]string{"db": "db0", "keys": "2", "expires": "1"}, rows["db db0"]); diff != "" {
			t.Error(diff)
		}
		r.Exec(t, "FLUSHALL")
		if got := table(t, s, "INFO keyspace"); got != nil {
			t.Errorf("an empty server has %q", got)
		}
		if got := table(t, s, "INFO server"); len(got) != 2 {
			t.Errorf("%q", got)
		}
		// A metric finds its column although there is no row for it yet.
		if got := table(t, s, "INFO everything"); !strings.Contains(got[0], "|db|keys|") {
			t.Errorf("no columns of databases in %s", got[0])
		}
	})
}

func TestRedisInfoOfReplica(t *testing.T) {
	t.Parallel()
	master, replica := servers.Redis(t), servers.Redis(t)
	replica.Do(t, "REPLICAOF", master.Host, master.Port)
	s := open(t, redisSource(master))
	servers.Eventually(t, "the replica is online", func() bool {
		got := table(t, s, "INFO replication")
		return len(got) == 3 && strings.Contains(got[2], fmt.Sprintf("|slave0|%s|%d|online|", replica.Host, replica.Port))
	})
}
