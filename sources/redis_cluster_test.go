package sources_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

func TestRedisCluster(t *testing.T) {
	nodes := servers.RedisCluster(t, 3)
	c := redisSource(nodes[0])
	c.Cluster, c.Host, c.Port = true, "", 0
	c.Addresses = []string{"127.0.0.1:1", nodes[1].Addr()}
	s := open(t, c)
	// owner returns the node that has a key, as it says itself.
	owner := func(key string) *servers.RedisServer {
		slot := nodes[0].Do(t, "CLUSTER", "KEYSLOT", key).(int64)
		return nodes[slot*3/16384]
	}
	var keys []string
	for i := range 60 {
		key := fmt.Sprintf("queue:%02d", i)
		owner(key).Do(t, "RPUSH", key, "a", "b")
		keys = append(keys, key+"|2")
	}
	sorted := func(command string) []string {
		rows := table(t, s, command)
		if len(rows) > 0 {
			slices.Sort(rows[1:])
		}
		return rows
	}
	for i := range 60 {
		if got := table(t, s, fmt.Sprintf("LLEN queue:%02d", i)); !cmp.Equal(got, []string{"value", "2"}) {
			t.Errorf("queue:%02d: %q", i, got)
		}
	}
	if diff := cmp.Diff(append([]string{"key|value"}, keys...), sorted("LLEN MATCH queue:*")); diff != "" {
		t.Error(diff)
	}
	if got := table(t, s, "DBSIZE MATCH *"); !cmp.Equal(got, []string{"value", "60"}) {
		t.Errorf("%q", got)
	}
	if got := table(t, s, "EVAL_RO 'return redis.call(\"LLEN\", KEYS[1])' 1 queue:07"); !cmp.Equal(got, []string{"value", "2"}) {
		t.Errorf("%q", got)
	}
	// What has no key is asked of every master.
	want := []string{"node|value"}
	for _, n := range nodes {
		want = append(want, fmt.Sprintf("%s|%d", n.Addr(), n.Do(t, "DBSIZE")))
	}
	slices.Sort(want[1:])
	if diff := cmp.Diff(want, sorted("DBSIZE")); diff != "" {
		t.Error(diff)
	}
	if rows := table(t, s, "INFO server"); len(rows) != 4 || !strings.HasPrefix(rows[0], "node|redis_version|") {
		t.Errorf("%.300q", rows)
	}
	if err := s.Query(t.Context(), query("MGET queue:01 queue:02"), ignore); err == nil || !strings.Contains(err.Error(), "CROSSSLOT") {
		t.Errorf("error is %v", err)
	}

	t.Run("a slot moves", func(t *testing.T) {
		const key = "queue:07"
		slot := nodes[0].Do(t, "CLUSTER", "KEYSLOT", key)
		from := owner(key)
		to := nodes[(slices.Index(nodes, from)+1)%3]
		id := func(n *servers.RedisServer) any { return n.Do(t, "CLUSTER", "MYID") }
		to.Do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", id(from))
		from.Do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", id(to))
		from.Do(t, "MIGRATE", to.Host, to.Port, key, 0, 30000)
		if got := table(t, s, "LLEN "+key); !cmp.Equal(got, []string{"value", "2"}) {
			t.Errorf("on its way: %q", got)
		}
		for _, n := range []*servers.RedisServer{to, from} {
			n.Do(t, "CLUSTER", "SETSLOT", slot, "NODE", id(to))
		}
		servers.Eventually(t, "the slot has moved", func() bool {
			rows := 0
			err := s.Query(t.Context(), query("LLEN "+key), func(*sources.Row) error { rows++; return nil })
			return err == nil && rows == 1
		})
	})

	t.Run("a script is killed on its node", func(t *testing.T) {
		q := query(`EVAL_RO "while true do end" 1 queue:07`)
		q.Timeout = 200 * time.Millisecond
		if err := s.Query(t.Context(), q, ignore); err == nil || !strings.Contains(err.Error(), "timed out after 200ms") {
			t.Errorf("error is %v", err)
		}
		for _, n := range nodes {
			servers.Eventually(t, "no script runs", func() bool { return n.Running(t) == 0 })
		}
	})

	t.Run("a node is killed", func(t *testing.T) {
		if err := nodes[2].Stop(); err != nil {
			t.Fatal(err)
		}
		if err := s.Query(t.Context(), query("DBSIZE"), ignore); err == nil {
			t.Error("no error")
		}
		if err := nodes[2].Start(); err != nil {
			t.Fatal(err)
		}
		servers.Eventually(t, "the cluster answers again", func() bool {
			return s.Query(t.Context(), query("DBSIZE"), ignore) == nil
		})
	})
}

func TestRedisWithoutCluster(t *testing.T) {
	c := redisSource(sharedRedis.Get(t))
	c.Cluster = true
	err := open(t, c).Query(t.Context(), query("LLEN kept"), ignore)
	if err == nil || !strings.Contains(err.Error(), "cluster support disabled") {
		t.Errorf("error is %v", err)
	}
}

// The source follows the master that the Sentinel names.
func TestRedisSentinel(t *testing.T) {
	t.Parallel()
	master, replica := servers.Redis(t), servers.Redis(t)
	master.Exec(t, "SET k v", "SET of master")
	replica.Do(t, "REPLICAOF", master.Host, master.Port)
	servers.Eventually(t, "the replica follows", func() bool {
		return replica.Info(t, "replication")["master_link_status"] == "up" && replica.Do(t, "GET", "k") == "v"
	})
	sentinel := servers.Sentinel(t, "main", master)
	sentinel.Do(t, "ACL", "SETUSER", "agent", "on", ">sentinel word", "-@all", "+sentinel|get-master-addr-by-name")
	c := redisSource(master)
	c.Host, c.Port, c.SentinelMaster = "", 0, "main"
	c.Addresses = []string{"127.0.0.1:1", sentinel.Addr()}
	c.SentinelUser, c.SentinelPasswordFile = "agent", tempFile(t, []byte("sentinel word\n"))
	s := open(t, c)
	port := func() string {
		got := table(t, s, "CONFIG GET port")
		if len(got) != 2 {
			return ""
		}
		return got[1]
	}
	if got := port(); got != fmt.Sprint(master.Port) {
		t.Errorf("connected to port %s, the master has %d", got, master.Port)
	}
	servers.Eventually(t, "the Sentinel knows the replica", func() bool {
		return strings.Contains(fmt.Sprint(sentinel.Do(t, "SENTINEL", "REPLICAS", "main")), fmt.Sprint(replica.Port))
	})
	sentinel.Do(t, "SENTINEL", "SET", "main", "down-after-milliseconds", 1000)
	if err := master.Stop(); err != nil {
		t.Fatal(err)
	}
	// One that was itself stopped for two seconds does nothing for thirty.
	named := func() bool {
		return fmt.Sprint(sentinel.Do(t, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")) == fmt.Sprintf("[%s %d]", replica.Host, replica.Port)
	}
	end := time.After(2 * time.Minute)
	for tick := time.Tick(100 * time.Millisecond); !named(); {
		select {
		case <-tick:
		case <-end:
			t.Fatal("the Sentinel names no new master")
		}
	}
	servers.Eventually(t, "the source follows to the new master", func() bool {
		var got string
		err := s.Query(t.Context(), query("CONFIG GET port"), func(r *sources.Row) error { got = line(r); return nil })
		return err == nil && got == fmt.Sprint(replica.Port)
	})

	c.SentinelMaster = "other"
	err := open(t, c).Query(t.Context(), query("PING"), ignore)
	if err == nil || !strings.Contains(err.Error(), "it knows no master of the name other; check sentinel_master") {
		t.Errorf("error is %v", err)
	}
	c.SentinelPasswordFile = tempFile(t, []byte("wrong"))
	err = open(t, c).Query(t.Context(), query("PING"), ignore)
	if err == nil || !strings.Contains(err.Error(), "as user agent") || !strings.Contains(err.Error(), "check user and password") {
		t.Errorf("error is %v", err)
	}
}
