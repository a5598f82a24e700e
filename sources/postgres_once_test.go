package sources_test

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// tapped passes on what goes to and from a server and keeps what the server
// says: the rows of a result are in it as often as the query was run.
type tapped struct {
	target string

	mu   sync.Mutex
	said bytes.Buffer
}

func (p *tapped) serve(client net.Conn) { relay(client, p.target, p) }

// Write implements io.Writer.
func (p *tapped) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

func (p *tapped) count(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.said.String(), text)
}

// A query is run once, the first time too, whatever its columns' types are.
func TestPostgresFirstRunIsTheOnlyOne(t *testing.T) {
	pg := shared.Get(t)
	pg.Exec(t, "DROP TYPE IF EXISTS mood", "CREATE TYPE mood AS ENUM ('glad')")
	for name, test := range map[string]struct{ sql, want, counted string }{
		"int":     {"SELECT 'ro' || 'w1', 7", "row1|7", "row1"},
		"inet":    {"SELECT 'ro' || 'w1', '10.0.0.1'::inet", "row1|10.0.0.1", "row1"},
		"uuid":    {"SELECT 'ro' || 'w1', 'c0ffee00-0000-0000-0000-000000000000'::uuid", "row1|c0ffee00-0000-0000-0000-000000000000", "row1"},
		"enum":    {"SELECT 'ro' || 'w1', 'glad'::mood", "row1|glad", "row1"},
		"array":   {"SELECT 'ro' || 'w1', ARRAY[1, 2]", "row1|{1,2}", "row1"},
		"void":    {"SELECT 'ro' || 'w1', pg_sleep(0)", "row1|", "row1"},
		"SHOW":    {"SHOW server_encoding", "UTF8", "SHOW"},
		"EXPLAIN": {"EXPLAIN SELECT 1", "Result  (cost=0.00..0.01 rows=1 width=4)", "EXPLAIN"},
		"wrong":   {"SELECT missing", "", `column "missing" does not exist`},
		"fails":   {"SELECT '10.0.0.1'::inet, 1 / (random() * 0)::int", "", "division by zero"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &tapped{target: pg.Addr()}
			s := open(t, through(t, pgSource(pg), fakeServer(t, p.serve)))
			var got []string
			err := s.Query(t.Context(), query(test.sql), func(r *sources.Row) error {
				got = append(got, line(r))
				return nil
			})
			if test.want == "" && err == nil || test.want != "" && (err != nil || !cmp.Equal(got, []string{test.want})) {
				t.Errorf("rows %q, error %v", got, err)
			}
			// The tag of a command comes when it is done, once for each time.
			tag := test.counted
			if strings.ToUpper(tag) == tag {
				tag = "C\x00\x00\x00" + string(rune(len(tag)+5)) + tag + "\x00"
			}
			if n := p.count(tag); n != 1 {
				t.Errorf("the server said %q %d times", tag, n)
			}
		})
	}
}

// Limits hold in the first run, of whatever types the columns are.
func TestPostgresFirstRunIsStopped(t *testing.T) {
	pg := shared.Get(t)
	c := pgSource(pg)
	c.MaxResultBytes = 64 << 20
	s := open(t, c)
	enough := errors.New("enough")
	rows := 0
	err := answered(t, s, unending("SELECT n, '10.0.0.1'::inet, repeat('x', 20) FROM (SELECT generate_series(1, 10000000000) AS n) s"), func(*sources.Row) error {
		if rows++; rows > 10 {
			return enough
		}
		return nil
	})
	if err != enough {
		t.Errorf("error is %v", err)
	}
	servers.Eventually(t, "the statement is gone", func() bool { return pg.Running(t, application) == 0 })
}

// A result whose columns have changed under the same query is read as it is.
func TestPostgresChangedResult(t *testing.T) {
	pg := shared.Get(t)
	pg.Exec(t, "DROP TABLE IF EXISTS changing", "CREATE TABLE changing (v text)", "INSERT INTO changing VALUES ('1')")
	c := pgSource(pg)
	c.MaxConnections = 1
	s := open(t, c)
	for _, change := range []struct{ statement, want string }{
		{"SELECT 1", "1"},
		{"ALTER TABLE changing ALTER v TYPE inet USING '10.0.0.1'", "10.0.0.1"},
		{"ALTER TABLE changing ADD w int DEFAULT 7", "10.0.0.1|7"},
		{"ALTER TABLE changing ADD x int DEFAULT 8", "10.0.0.1|7|8"},
		{"ALTER TABLE changing ALTER v TYPE int USING 5", "5|7|8"},
	} {
		pg.Exec(t, change.statement)
		for range 2 {
			if got := read(t, s, "SELECT * FROM changing"); !cmp.Equal(got, []string{change.want}) {
				t.Errorf("after %s: %v", change.statement, got)
			}
		}
	}
}
