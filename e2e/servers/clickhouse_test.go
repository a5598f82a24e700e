package servers

import "testing"

func TestClickHouse(t *testing.T) {
	ch := ClickHouseServer(t, Account{Name: "reader", Password: "one", Readonly: 1})
	ch.Exec(t, "CREATE TABLE t (v Int64) ENGINE = TinyLog", "INSERT INTO t VALUES (7)")
	for name, down := range map[string]struct{ do, undo func() error }{
		"stop":  {ch.Stop, ch.Start},
		"pause": {ch.Pause, ch.Resume},
	} {
		if err := down.do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := down.undo(); err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
		if got := ch.Query(t, "SELECT v FROM t")[0][0]; got != "7" {
			t.Errorf("after %s the table holds %s", name, got)
		}
	}
	// The server lists a query for a moment after its end.
	Eventually(t, "only the query that asks is left", func() bool { return ch.Running(t, ch.User) == 1 })
	ch.SetPassword(t, "reader", "two")
	if _, err := ch.ask("SELECT 1", "reader", "one"); err == nil {
		t.Error("the old password still works")
	}
}
