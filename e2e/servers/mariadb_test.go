package servers

import (
	"os"
	"testing"
)

func TestMariaDB(t *testing.T) {
	var m *MariaDB
	t.Run("one server", func(t *testing.T) {
		m = MySQL(t, "log-warnings=0")
		user := m.Account(t, "SELECT")
		m.Exec(t, "CREATE TABLE t (v int)", "INSERT INTO t VALUES (7)")
		for name, down := range map[string]struct {
			do   func() error
			undo func() error
		}{
			"stop":  {m.Stop, func() error { return m.Start() }},
			"pause": {m.Pause, m.Resume},
		} {
			if err := down.do(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := down.undo(); err != nil {
				t.Fatalf("after %s: %v", name, err)
			}
			if got := m.Query(t, "SELECT v FROM t")[0][0]; got != "7" {
				t.Errorf("after %s the table holds %s", name, got)
			}
		}
		// The server lists a connection for a moment after its end.
		Eventually(t, "only the connection that asks is left", func() bool {
			return m.Connections(t, "root") == 1
		})
		if all, running := m.Connections(t, user), m.Running(t, user); all != 0 || running != 0 {
			t.Errorf("the account has %d connections, %d run something", all, running)
		}
	})
	if m == nil {
		return // the server is not installed
	}
	if _, err := os.Stat(m.folder); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	if err := m.run("DO 1"); err == nil {
		t.Error("the server still answers")
	}
}
