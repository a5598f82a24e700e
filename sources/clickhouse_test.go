package sources_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

// eachProtocol runs test over both protocols of the shared server.
func eachProtocol(t *testing.T, test func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol)) {
	for _, protocol := range []config.SourceProtocol{config.ProtocolNative, config.ProtocolHTTP} {
		t.Run(string(protocol), func(t *testing.T) { test(t, sharedClickHouse.Get(t), protocol) })
	}
}

// clickhouseTypes are expressions that a server of 18.16 knows, with the kind
// and the label they become.
var clickhouseTypes = []struct {
	sql  string
	kind sources.Kind
	want string
}{
	{"toInt8(-128)", sources.Int64, "-128"},
	{"toInt16(-32768)", sources.Int64, "-32768"},
	{"toInt32(-2147483648)", sources.Int64, "-2147483648"},
	{"toInt64('-9223372036854775808')", sources.Int64, "-9223372036854775808"},
	{"toUInt8(255)", sources.Uint64, "255"},
	{"toUInt16(65535)", sources.Uint64, "65535"},
	{"toUInt32(4294967295)", sources.Uint64, "4294967295"},
	{"toUInt64('18446744073709551615')", sources.Uint64, "18446744073709551615"},
	{"toFloat32(0.1)", sources.Float64, "0.1"},
	{"toFloat64(0.1)", sources.Float64, "0.1"},
	{"nan", sources.Float64, "NaN"},
	{"-inf", sources.Float64, "-Inf"},
	{"toDecimal32('-0.05', 2)", sources.Text, "-0.05"},
	{"toDecimal64('123456789012.345678', 6)", sources.Text, "123456789012.345678"},
	{"toDecimal128('-99999999999999999999.000000000000000001', 18)", sources.Text, "-99999999999999999999.000000000000000001"},
	{"toDecimal32('7', 0)", sources.Text, "7"},
	{"1 = 1", sources.Uint64, "1"},
	{"toDate('2026-11-22')", sources.Time, "2026-11-22T00:00:00Z"},
	{"toDateTime('2026-11-22 03:04:05')", sources.Time, "2026-11-22T03:04:05Z"},
	{"toDateTime('2026-11-22 03:04:05', 'Asia/Tokyo')", sources.Time, "2026-11-21T18:04:05Z"},
	{"toIntervalDay(3)", sources.Int64, "3"},
	{"toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')", sources.Text, "61f0c404-5cb3-11e7-907b-a6006ad3dba0"},
	{"CAST('b' AS Enum8('a' = -1, 'b' = 2))", sources.Text, "b"},
	{`CAST('it\'s, (x)' AS Enum16('it\'s, (x)' = -1000))`, sources.Text, "it's, (x)"},
	{"toFixedString('abc', 5)", sources.Text, "abc"},
	{"''", sources.Text, ""},
	{"'größer'", sources.Text, "größer"},
	{"NULL", sources.Null, ""},
	{"CAST(NULL AS Nullable(String))", sources.Null, ""},
	{"CAST('x' AS Nullable(String))", sources.Text, "x"},
	{"CAST(1.5 AS Nullable(Float64))", sources.Float64, "1.5"},
	{"[1, 2, 3]", sources.Text, "[1,2,3]"},
	{`['a', 'b\'c\\']`, sources.Text, `['a','b\'c\\']`},
	{"emptyArrayString()", sources.Text, "[]"},
	{"[[toDate('2026-11-22')], []]", sources.Text, "[['2026-11-22T00:00:00Z'],[]]"},
	{"[NULL, 1]", sources.Text, "[NULL,1]"},
	{"[toDecimal32('1.50', 2)]", sources.Text, "[1.50]"},
	{"[toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')]", sources.Text, "['61f0c404-5cb3-11e7-907b-a6006ad3dba0']"},
	{"[CAST('a' AS Enum8('a' = 1))]", sources.Text, "['a']"},
	{"(1, 'x', NULL)", sources.Text, "(1,'x',NULL)"},
}

func TestClickHouseTypes(t *testing.T) {
	eachProtocol(t, func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol) {
		s := open(t, chSource(ch, protocol, "reader0"))
		for _, test := range clickhouseTypes {
			rows := 0
			err := s.Query(t.Context(), query("SELECT "+test.sql+" AS v, number AS n FROM system.numbers LIMIT 3"), func(r *sources.Row) error {
				if got := string(r.Values[0].AppendText(nil)); got != test.want || r.Values[0].Kind() != test.kind {
					t.Errorf("%s is %q of kind %d, want %q of kind %d", test.sql, got, r.Values[0].Kind(), test.want, test.kind)
				}
				rows++
				return nil
			})
			if err != nil || rows != 3 {
				t.Errorf("%s: %d rows, %v", test.sql, rows, err)
			}
		}
	})
}

// A type that cannot be read is an error that says what to do, and leaves
// nothing behind.
func TestClickHouseUnknownType(t *testing.T) {
	eachProtocol(t, func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol) {
		s := open(t, chSource(ch, protocol, "reader0"))
		err := s.Query(t.Context(), query("SELECT sumState(number) AS state FROM (SELECT number FROM system.numbers LIMIT 10)"), ignore)
		if err == nil || !strings.Contains(err.Error(), "column state: type AggregateFunction(sum, UInt64) cannot be read; select toString of it") {
			t.Errorf("error is %v", err)
		}
		wantOnce(t, err, "ch")
		if got := read(t, s, "SELECT 1"); !cmp.Equal(got, []string{"1"}) {
			t.Errorf("the next query returns %v", got)
		}
		ch.WaitIdle(t, "reader0")
	})
}

// What goes along with a query depends on what the account may set.
func TestClickHouseSettings(t *testing.T) {
	eachProtocol(t, func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol) {
		for user, want := range map[string][]string{
			"reader0": {"max_execution_time|21", "max_result_bytes|4096", "max_result_rows|7", "readonly|1"},
			"reader1": {"max_execution_time|0", "max_result_bytes|0", "max_result_rows|0", "readonly|1"},
			"reader2": {"max_execution_time|21", "max_result_bytes|4096", "max_result_rows|7", "readonly|2"},
		} {
			c := chSource(ch, protocol, user)
			c.MaxResultBytes = 2048
			s := open(t, c)
			q := query("SELECT name, value FROM system.settings WHERE name IN ('readonly', 'max_execution_time', 'max_result_rows', 'max_result_bytes') ORDER BY name")
			q.Timeout = 20100 * time.Millisecond // whole seconds are what this server takes
			q.Policies.RowLimit = 7
			var got []string
			err := s.Query(t.Context(), q, func(r *sources.Row) error { got = append(got, line(r)); return nil })
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%s: %v %s", user, err, diff)
			}
		}
	})
}

// The server refuses writes by itself, whatever the verb looks like.
func TestClickHouseRefusesWrites(t *testing.T) {
	eachProtocol(t, func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol) {
		for _, user := range []string{"reader0", "reader1", "reader2"} {
			d := clickhouseDatabase(t)
			s := open(t, chSource(ch, protocol, user))
			before := d.kept(t)
			for _, sql := range append(d.writes, "SET readonly = 0", "SELECT 1 SETTINGS readonly = 0") {
				switch {
				case strings.HasPrefix(sql, "KILL"):
					continue // ends queries of the account only, and is how we do
				case strings.Contains(sql, "TEMPORARY") && user == "reader2":
					continue // is allowed to, and over with its session
				}
				if err := sources.RunClickHouse(t.Context(), s, sql); err == nil || errors.As(err, new(*sources.ConnectError)) {
					t.Errorf("%s: %s: error is %v", user, sql, err)
				}
			}
			if after := d.kept(t); after != before {
				t.Errorf("%s: there was %s, and is %s", user, before, after)
			}
		}
	})
}

// A DBA sees who asks what.
func TestClickHouseShowsWhoAsks(t *testing.T) {
	ch := sharedClickHouse.Get(t)
	s := open(t, chSource(ch, config.ProtocolNative, "reader2"))
	ch.WaitIdle(t, "reader2") // a query is listed for a moment after its end
	const who = "SELECT client_name, substring(query, 1, position(query, 'SELECT') - 1), substring(query_id, 1, 12) FROM system.processes WHERE user = 'reader2'"
	got := read(t, s, who)
	if want := []string{"sql2metrics|/* sql2metrics source=ch query=q */ |sql2metrics-"}; !cmp.Equal(got, want) {
		t.Errorf("the server shows %q", got)
	}
}

// An error behind hundreds of thousands of rows is seen as the server says it,
// where the server has long begun to send.
func TestClickHouseLateError(t *testing.T) {
	eachProtocol(t, func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol) {
		s := open(t, chSource(ch, protocol, "reader0"))
		err := s.Query(t.Context(), query("SELECT number, throwIf(number = 900000) FROM system.numbers LIMIT 1000000"), ignore)
		if err == nil || !strings.Contains(err.Error(), "code 395") {
			t.Errorf("error is %v", err)
		}
	})
}

// What the server says comes in one line, and is not taken for another's words.
func TestClickHouseErrorsAreOneLine(t *testing.T) {
	eachProtocol(t, func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol) {
		s := open(t, chSource(ch, protocol, "reader2"))
		for sql, want := range map[string]string{
			"SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a UInt8')":     "refused",
			"SELECT * FROM remote('127.0.0.1:1', system.one)":              "code 279",
			"SELECT * FROM remote('127.0.0.1:1,127.0.0.1:2', system, one)": "code 279",
			"SELECT 1 FORMAT JSON": "",
			"SELECT 1 AS `a\nb`, sumState(dummy) AS `a\n\tb` FROM system.one": "cannot be read",
		} {
			err := s.Query(t.Context(), query(sql), ignore)
			if err == nil && sql == "SELECT 1 FORMAT JSON" && protocol == config.ProtocolNative {
				continue // which has one format
			}
			if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\t") || strings.Contains(err.Error(), "no ClickHouse") {
				t.Errorf("%s: error is %v", sql, err)
			}
		}
	})
}

// Over HTTP a result comes when it is whole, so the rows ahead of an error do
// not come at all.
func TestClickHouseHTTP(t *testing.T) {
	d := clickhouseDatabase(t)
	ch := sharedClickHouse.Get(t)
	s := open(t, chSource(ch, config.ProtocolHTTP, "reader0"))

	err := s.Query(t.Context(), query(d.fails), ignore)
	if err == nil || !strings.Contains(err.Error(), "Division by zero") || strings.Contains(err.Error(), "Stack trace") {
		t.Errorf("error is %v", err)
	}
	wantOnce(t, err, "ch")
	if got := len(read(t, s, fmt.Sprintf(d.series, 200_000))); got != 200_000 {
		t.Errorf("%d rows", got)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	stop := errors.New("enough")
	if err := s.Query(t.Context(), query(fmt.Sprintf(d.series, 200_000)), func(*sources.Row) error { return stop }); err != stop {
		t.Errorf("error is %v", err)
	}

	q := query(d.slow)
	q.Timeout = 100 * time.Millisecond
	if err := s.Query(t.Context(), q, ignore); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "query timed out after 100ms") {
		t.Errorf("error is %v", err)
	}
	servers.Eventually(t, "the query leaves after its time", func() bool { return ch.Running(t, "reader0") == 0 })

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Query(ctx, query(d.slow), ignore) }()
	servers.Eventually(t, "the query runs", func() bool { return ch.Running(t, "reader0") == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	servers.Eventually(t, "the query leaves when it is cancelled", func() bool { return ch.Running(t, "reader0") == 0 })
}

// What accepts and says nothing, or no TLS, is an error that says so.
func TestClickHouseSilence(t *testing.T) {
	for _, mode := range []string{"disable", "require"} {
		eachProtocol(t, func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol) {
			c := through(t, chSource(ch, protocol, "reader0"), fakeServer(t, swallow))
			c.TLS.Mode, c.Timeout = mode, 200*time.Millisecond
			err := open(t, c).Query(t.Context(), query("SELECT 1"), ignore)
			if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "no answer in time; is the port right?") {
				t.Errorf("TLS %s: error is %v", mode, err)
			}
		})
	}
}

// What speaks another protocol is told from one that is down.
func TestClickHouseWrongPort(t *testing.T) {
	eachProtocol(t, func(t *testing.T, ch *servers.ClickHouse, protocol config.SourceProtocol) {
		c := chSource(ch, protocol, "reader0")
		if c.Port == ch.Port {
			c.Port = ch.HTTPPort
		} else {
			c.Port = ch.Port
		}
		c.Timeout = 500 * time.Millisecond
		err := open(t, c).Ping(t.Context())
		if !errors.As(err, new(*sources.ConnectError)) || !strings.Contains(err.Error(), "port") {
			t.Errorf("error is %v", err)
		}
	})
}
