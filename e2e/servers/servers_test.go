package servers

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPostgres(t *testing.T) {
	var pg *PG
	t.Run("one server", func(t *testing.T) {
		pg = Postgres(t, "log_min_messages=error")
		pg.Exec(t, "CREATE TABLE t (v int)", "INSERT INTO t VALUES (7)")
		for name, down := range map[string]struct{ do, undo func() error }{
			"stop":  {pg.Stop, pg.Start},
			"pause": {pg.Pause, pg.Resume},
		} {
			if err := down.do(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := down.undo(); err != nil {
				t.Fatalf("after %s: %v", name, err)
			}
			if got := pg.Query(t, "SELECT v FROM t")[0][0]; got != "7" {
				t.Errorf("after %s the table holds %s", name, got)
			}
		}
		// The server lists a connection for a moment after its end.
		Eventually(t, "only the connection that asks is left", func() bool {
			return pg.Connections(t, "e2e") == 1
		})
		pg.WriteFile(t, "extra.conf", nil)
		pg.Reload(t)
	})
	if pg == nil {
		return // the server is not installed
	}
	if _, err := os.Stat(pg.folder); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	if err := pg.run("SELECT 1"); err == nil {
		t.Error("the server still answers")
	}
}

func TestNeedNamesThePackage(t *testing.T) {
	if _, err := find("someserver", []string{"/no/such/*/server"}); err == nil || err.Error() != "/no/such/*/server is missing: apt-get install someserver" {
		t.Errorf("error is %v", err)
	}
}
