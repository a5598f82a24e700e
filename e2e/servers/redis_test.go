package servers

import (
	"os"
	"testing"
)

func TestRedis(t *testing.T) {
	var r *RedisServer
	t.Run("one server", func(t *testing.T) {
		r = Redis(t, "maxclients 20")
		for name, down := range map[string]struct{ do, undo func() error }{
			"stop":  {r.Stop, r.Start},
			"pause": {r.Pause, r.Resume},
		} {
			if err := down.do(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := down.undo(); err != nil {
				t.Fatalf("after %s: %v", name, err)
			}
			r.Exec(t, "SET k v", "INCR n")
			if got := r.Do(t, "GET", "k"); got != "v" {
				t.Errorf("after %s: %v", name, got)
			}
		}
		if n := r.Running(t); n != 0 {
			t.Errorf("%d scripts run", n)
		}
		if n := r.Connections(t, "someone"); n != 0 {
			t.Errorf("%d connections", n)
		}
		if role := r.Info(t, "replication")["role"]; role != "master" {
			t.Errorf("role %s", role)
		}
		r.SetPassword(t, "secret word")
		if got := r.Do(t, "PING"); got != "PONG" {
			t.Error(got)
		}
	})
	if r == nil {
		return // the server is not installed
	}
	if _, err := os.Stat(r.folder); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	if _, err := r.do("PING"); err == nil {
		t.Error("the server still answers")
	}
}

func TestRedisCluster(t *testing.T) {
	nodes := RedisCluster(t, 3)
	if len(nodes) != 3 {
		t.Fatal(len(nodes))
	}
}

func TestSentinel(t *testing.T) {
	master := Redis(t)
	s := Sentinel(t, "main", master)
	if got := s.Do(t, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main").([]any); got[0] != master.Host {
		t.Error(got)
	}
}
