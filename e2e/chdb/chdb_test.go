//go:build chdb

package chdb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/chcol"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// engine is the one of the process.
var engine *Engine

// suite ends the engine before goroutines are counted.
type suite struct {
	*testing.M
	folder string
}

func (s suite) Run() int {
	code := s.M.Run()
	engine.Close()
	if err := os.RemoveAll(s.folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "sql2metrics-chdb-")
	if err == nil {
		engine, err = Open(os.Getenv("CHDB_LIBRARY"), folder)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err, "\nCHDB_LIBRARY names the library; make chdb fetches it")
		os.Exit(1)
	}
	goleak.VerifyTestMain(suite{m, folder})
}

// ServeHTTP hands requests of ClickHouse's HTTP protocol to the engine and its
// answers back: every parameter that is none of the protocol's is a setting, in
// an order in which readonly is the last.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parameters := r.URL.Query()
	sql, err := io.ReadAll(r.Body)
	for _, own := range []string{"default_format", "query_id", "database"} {
		parameters.Del(own)
	}
	var names []string
	for name := range parameters {
		if name != "readonly" && name != "wait_end_of_query" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var settings []string
	for _, name := range names {
		settings = append(settings, name+" = '"+strings.ReplaceAll(parameters.Get(name), "'", "\\'")+"'")
	}
	if parameters.Has("readonly") {
		settings = append(settings, "readonly = "+parameters.Get("readonly"))
	}
	var answer []byte
	if err == nil && r.Method == http.MethodPost {
		statement := string(sql)
		if len(settings) > 0 {
			statement += " SETTINGS " + strings.Join(settings, ", ")
		}
		answer, err = e.Query(statement)
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		answer = []byte(err.Error())
	}
	_, _ = w.Write(answer)
}

// open returns the engine as a source, spoken to over HTTP.
func open(t *testing.T) sources.Source {
	t.Helper()
	server := httptest.NewServer(engine)
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sources.Open(config.Source{
		Name: "chdb", Type: config.TypeClickHouse, Protocol: config.ProtocolHTTP, Host: host, Port: n, User: "default",
		MaxConnections: 1, MaxResultBytes: 64 << 20, Timeout: 30 * time.Second,
	}, sources.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query(sql string) config.Query {
	return config.Query{Name: "q", SQL: sql, Timeout: 30100 * time.Millisecond}
}

// types are what a current engine has, with the kind and the label that a cell
// becomes.
var types = map[string]struct {
	sql  string
	kind sources.Kind
	want string
}{
	"Int8":                         {"toInt8(-128)", sources.Int64, "-128"},
	"Int64":                        {"toInt64('-9223372036854775808')", sources.Int64, "-9223372036854775808"},
	"Int128":                       {"toInt128('-170141183460469231731687303715884105728')", sources.Text, "-170141183460469231731687303715884105728"},
	"Int256":                       {"toInt256('-57896044618658097711785492504343953926634992332820282019728792003956564819968')", sources.Text, "-57896044618658097711785492504343953926634992332820282019728792003956564819968"},
	"UInt64":                       {"toUInt64('18446744073709551615')", sources.Uint64, "18446744073709551615"},
	"UInt128":                      {"toUInt128('340282366920938463463374607431768211455')", sources.Text, "340282366920938463463374607431768211455"},
	"UInt256":                      {"toUInt256('115792089237316195423570985008687907853269984665640564039457584007913129639935')", sources.Text, "115792089237316195423570985008687907853269984665640564039457584007913129639935"},
	"Float32":                      {"toFloat32(0.1)", sources.Float64, "0.1"},
	"BFloat16":                     {"toBFloat16(1.5)", sources.Float64, "1.5"},
	"Bool":                         {"true", sources.Bool, "true"},
	"Decimal32":                    {"toDecimal32('-0.05', 2)", sources.Text, "-0.05"},
	"Decimal256":                   {"toDecimal256('-12345678901234567890123456789012345678901234567890.000000001', 9)", sources.Text, "-12345678901234567890123456789012345678901234567890.000000001"},
	"Date":                         {"toDate('2026-11-22')", sources.Time, "2026-11-22T00:00:00Z"},
	"Date32":                       {"toDate32('1925-01-01')", sources.Time, "1925-01-01T00:00:00Z"},
	"DateTime":                     {"toDateTime('2026-11-22 03:04:05', 'UTC')", sources.Time, "2026-11-22T03:04:05Z"},
	"DateTime64":                   {"toDateTime64('2026-11-22 03:04:05.123456789', 9, 'Asia/Tokyo')", sources.Time, "2026-11-21T18:04:05.123456789Z"},
	"DateTime64 before 1970":       {"toDateTime64('1969-12-31 23:59:59.250', 3, 'UTC')", sources.Time, "1969-12-31T23:59:59.25Z"},
	"Time":                         {"CAST('10:00:01' AS Time)", sources.Int64, "36001"},
	"Time64":                       {"CAST('10:00:01.5' AS Time64(3))", sources.Text, "36001.500"},
	"Interval":                     {"INTERVAL 3 DAY", sources.Int64, "3"},
	"UUID":                         {"toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')", sources.Text, "61f0c404-5cb3-11e7-907b-a6006ad3dba0"},
	"IPv4":                         {"toIPv4('192.0.2.1')", sources.Text, "192.0.2.1"},
	"IPv6":                         {"toIPv6('2001:db8::1')", sources.Text, "2001:db8::1"},
	"Enum8":                        {`CAST('it\'s, (x)' AS Enum8('a' = -1, 'it\'s, (x)' = 2))`, sources.Text, "it's, (x)"},
	"Enum16":                       {"CAST('b' AS Enum16('a' = 1, 'b' = 1000))", sources.Text, "b"},
	"String":                       {"'größer'", sources.Text, "größer"},
	"FixedString":                  {"toFixedString('abc', 5)", sources.Text, "abc"},
	"NULL":                         {"NULL", sources.Null, ""},
	"Nullable":                     {"toNullable('x')", sources.Text, "x"},
	"LowCardinality":               {"toLowCardinality(concat('v', toString(number)))", sources.Text, "v0"},
	"LowCardinality(Nullable)":     {"CAST(if(number = 0, NULL, 'x') AS LowCardinality(Nullable(String)))", sources.Null, ""},
	"LowCardinality(FixedString)":  {"CAST('abc' AS LowCardinality(FixedString(4)))", sources.Text, "abc"},
	"Array":                        {"[1, 300]", sources.Text, "[1,300]"},
	"Array of LowCardinality":      {"[toLowCardinality('a'), toLowCardinality('b')]", sources.Text, "['a','b']"},
	"Array of Array":               {"[['a'], []]", sources.Text, "[['a'],[]]"},
	"Map":                          {"map('k', 1, 'l', 2)", sources.Text, "{'k':1,'l':2}"},
	"Map of LowCardinality":        {"CAST(map('k', [1.5]) AS Map(LowCardinality(String), Array(Float64)))", sources.Text, "{'k':[1.5]}"},
	"Tuple":                        {"CAST((1, 'x') AS Tuple(a UInt8, `b c` Nullable(String)))", sources.Text, "(1,'x')"},
	"Nested":                       {"CAST([(1, 'x')] AS Nested(a UInt8, b String))", sources.Text, "[(1,'x')]"},
	"Point":                        {"CAST((1.5, 2) AS Point)", sources.Text, "(1.5,2)"},
	"Polygon":                      {"CAST([[(0, 0), (1, 1)]] AS Polygon)", sources.Text, "[[(0,0),(1,1)]]"},
	"SimpleAggregateFunction":      {"CAST(7 AS SimpleAggregateFunction(sum, UInt64))", sources.Uint64, "7"},
	"Variant":                      {"CAST(if(number = 0, 'x', 'y') AS Variant(String, UInt64))", sources.Text, "x"},
	"Variant of a number":          {"CAST(toUInt64(7) AS Variant(String, UInt64))", sources.Uint64, "7"},
	"Variant of NULL":              {"CAST(NULL AS Variant(String, UInt64))", sources.Null, ""},
	"JSON":                         {`CAST('{"a":{"b":1},"c":[1,"x"]}' AS JSON)`, sources.Text, `{"a":{"b":1},"c":[1,"x"]}`},
	"aggregate finished":           {"sumMerge(s) FROM (SELECT sumState(number) AS s FROM numbers(4)) --", sources.Uint64, "6"},
	"Dynamic as text":              {"CAST(CAST(7 AS Dynamic) AS String)", sources.Text, "7"},
	"text that Prometheus refuses": {"'a\\xff'", sources.Text, "a\xff"},
}

func TestTypes(t *testing.T) {
	s := open(t)
	for name, test := range types {
		t.Run(name, func(t *testing.T) {
			var got []string
			var kind sources.Kind
			sql := "SELECT " + test.sql + " AS v FROM numbers(2)"
			if before, _, cut := strings.Cut(test.sql, " --"); cut {
				sql = "SELECT " + before
			}
			err := s.Query(t.Context(), query(sql), func(r *sources.Row) error {
				if len(got) == 0 {
					kind = r.Values[0].Kind()
				}
				got = append(got, string(r.Values[0].AppendText(nil)))
				return nil
			})
			if err != nil || len(got) == 0 || got[0] != test.want || kind != test.kind {
				t.Fatalf("%q, the first of kind %d; %v", got, kind, err)
			}
			driver, differs := driverSays[name]
			if !differs {
				driver = test.want
			}
			if got := viaDriver(t, sql); got != driver {
				t.Errorf("clickhouse-go has %s, want %s", got, driver)
			}
		})
	}
}

// driverSays is what clickhouse-go makes of the first cell where it is not the
// label: it has Go's own values for what is made of others.
var driverSays = map[string]string{
	"Time":                    "10h0m1s",
	"Time64":                  "10h0m1.5s",
	"Interval":                "3 Days",
	"Array":                   "[1 300]",
	"Array of LowCardinality": "[a b]",
	"Array of Array":          "[[a] []]",
	"Map":                     "map[k:1 l:2]",
	"Map of LowCardinality":   "map[k:[1.5]]",
	"Tuple":                   `error: clickhouse: unsupported column type "c` + "`" + ` Nullable(String)"`,
	"Nested":                  "[map[a:1 b:x]]",
	"Point":                   "[1.5 2]",
	"Polygon":                 "[[[0 0] [1 1]]]",
}

// viaDriver decodes the same blocks with clickhouse-go and returns the first
// cell.
func viaDriver(t *testing.T, sql string) string {
	t.Helper()
	blocks, err := engine.Query(sql + " SETTINGS output_format_native_write_json_as_string = 1")
	if err != nil {
		t.Fatal(err)
	}
	b := proto.Block{ServerContext: &column.ServerContext{Timezone: time.UTC}}
	if err := b.Decode(chproto.NewReader(bytes.NewReader(blocks)), 0); err != nil {
		return "error: " + err.Error()
	}
	v := b.Columns[0].Row(0, false)
	if variant, ok := v.(chcol.Variant); ok {
		v = variant.Any()
	}
	switch v := v.(type) {
	case nil:
		return ""
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case big.Int:
		return v.String()
	case json.RawMessage:
		return string(v)
	case []byte:
		return string(v)
	case string:
		return strings.TrimRight(v, "\x00")
	}
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer {
		v = p.Elem().Interface()
	}
	return fmt.Sprint(v)
}

// What cannot be read says so, and what to do.
func TestUnknownTypes(t *testing.T) {
	s := open(t)
	for name, sql := range map[string]string{
		"Dynamic":           "SELECT CAST(7 AS Dynamic) AS v",
		"AggregateFunction": "SELECT sumState(number) AS v FROM numbers(2)",
		"QBit":              "SELECT CAST([1, 2] AS QBit(Float32, 2)) AS v",
	} {
		err := s.Query(t.Context(), query(sql), func(*sources.Row) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "column v: type "+name) || !strings.Contains(err.Error(), "select toString of it") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// A current engine takes all that goes along with a query.
func TestSettings(t *testing.T) {
	s := open(t)
	var got []string
	q := query(`SELECT toString(getSetting('max_execution_time')), toString(getSetting('max_result_rows')), toString(getSetting('result_overflow_mode')),
		toString(getSetting('max_result_bytes')), toString(getSetting('readonly')), toString(getSetting('log_comment'))`)
	q.Policies.RowLimit = 7
	err := s.Query(t.Context(), q, func(r *sources.Row) error {
		for _, v := range r.Values {
			got = append(got, string(v.AppendText(nil)))
		}
		return nil
	})
	want := []string{"30.1", "8", "break", strconv.Itoa(128 << 20), "1", "sql2metrics source=chdb query=q"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// A result over row_limit ends a little behind it, and not with an error.
func TestRowLimit(t *testing.T) {
	s := open(t)
	q := query("SELECT number FROM system.numbers LIMIT 10000000")
	q.Policies.RowLimit = 10
	rows := 0
	if err := s.Query(t.Context(), q, func(*sources.Row) error { rows++; return nil }); err != nil || rows <= 10 || rows > 200_000 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

func TestErrors(t *testing.T) {
	s := open(t)
	for sql, want := range map[string]string{
		"SELECT nothing":                               "code 47:",
		"SELECT * FROM nothing":                        "code 60:",
		"SELECT * FROM url('http://127.0.0.1:1', CSV)": "code ",
		"SELECT throwIf(number = 3) FROM numbers(9)":   "code 395:",
	} {
		err := s.Query(t.Context(), query(sql), func(*sources.Row) error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v", sql, err)
		}
	}
	q := query("SELECT count() FROM system.numbers WHERE number + 1 = 0")
	q.Timeout = 300 * time.Millisecond
	if err := s.Query(t.Context(), q, func(*sources.Row) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}
