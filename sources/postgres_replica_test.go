package sources_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
)

// A promotion opens and closes gates on a connection that lives on.
func TestPostgresPromotion(t *testing.T) {
	t.Parallel()
	primary := servers.Postgres(t)
	replica := primary.Replica(t)
	c := pgSource(replica)
	c.MaxConnections = 1
	s := open(t, c)
	backend := read(t, s, "SELECT pg_backend_pid()")
	wantGates(t, s, map[string]gated{
		"replica":     {config.Requires{Role: config.RoleReplica}, ""},
		"not primary": {config.Requires{Role: config.RolePrimary}, "role primary, and the server is a replica"},
	})
	replica.Promote(t)
	wantGates(t, s, map[string]gated{
		"not replica": {config.Requires{Role: config.RoleReplica}, "role replica, and the server is a primary"},
		"primary":     {config.Requires{Role: config.RolePrimary, Version: versions(t, ">=13")}, ""},
	})
	if got := read(t, s, "SELECT pg_backend_pid()"); !cmp.Equal(got, backend) {
		t.Errorf("backend is %v, was %v", got, backend)
	}
}

// A replica ends a query that keeps it from replaying. The error says so, and
// is the query's, not the connection's.
func TestPostgresConflictWithRecovery(t *testing.T) {
	t.Parallel()
	primary := servers.Postgres(t)
	replica := primary.Replica(t, "max_standby_streaming_delay=0")
	primary.Exec(t, "CREATE TABLE busy AS SELECT n FROM generate_series(1, 100) n")
	replica.CatchUp(t, primary)
	s := open(t, pgSource(replica))
	done := make(chan error, 1)
	go func() {
		done <- s.Query(t.Context(), query("SELECT count(*) FROM busy, LATERAL (SELECT pg_sleep(CASE WHEN n = 1 THEN 60 ELSE 0 END)) p"), ignore)
	}()
	servers.Eventually(t, "the query runs", func() bool {
		select {
		case err := <-done:
			t.Fatalf("the query ends at once: %v", err)
		default:
		}
		return replica.Sleeping(t, application) > 0
	})
	primary.Exec(t, "DELETE FROM busy", "VACUUM busy")
	err := <-done
	if err == nil || !strings.Contains(err.Error(), "conflict with recovery") || !strings.Contains(err.Error(), "hot_standby_feedback") {
		t.Fatalf("error is %v", err)
	}
	wantOnce(t, err, "pg")
	replica.CatchUp(t, primary)
	if got := read(t, s, "SELECT count(*) FROM busy"); !cmp.Equal(got, []string{"0"}) {
		t.Errorf("afterwards: %v", got)
	}
}
