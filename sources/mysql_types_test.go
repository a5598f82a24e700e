package sources_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/sources"
)

// mysqlTypes says for every type what the values of a column become: the kind,
// the label and the sample, which is 0 for what is none.
var mysqlTypes = []struct {
	column, value string
	kind          sources.Kind
	label         string
	sample        float64
}{
	{"BOOL", "TRUE", sources.Int64, "1", 1},
	{"TINYINT", "-128", sources.Int64, "-128", -128},
	{"TINYINT UNSIGNED", "255", sources.Int64, "255", 255},
	{"SMALLINT", "-32768", sources.Int64, "-32768", -32768},
	{"SMALLINT UNSIGNED", "65535", sources.Int64, "65535", 65535},
	{"MEDIUMINT", "-8388608", sources.Int64, "-8388608", -8388608},
	{"MEDIUMINT UNSIGNED", "16777215", sources.Int64, "16777215", 16777215},
	{"INT", "-2147483648", sources.Int64, "-2147483648", math.MinInt32},
	{"INT UNSIGNED", "4294967295", sources.Int64, "4294967295", math.MaxUint32},
	{"INT(8) ZEROFILL", "42", sources.Int64, "42", 42},
	{"BIGINT", "-9223372036854775808", sources.Int64, "-9223372036854775808", math.MinInt64},
	{"BIGINT UNSIGNED", "18446744073709551615", sources.Uint64, "18446744073709551615", math.MaxUint64},
	{"FLOAT", "0.1", sources.Float64, "0.1", 0.1},
	{"FLOAT", "-1.17549e-38", sources.Float64, "-1.17549e-38", -1.17549e-38},
	{"DOUBLE", "0.1", sources.Float64, "0.1", 0.1},
	{"DOUBLE", "1.5e300", sources.Float64, "1.5e+300", 1.5e300},
	{"DECIMAL(10,4)", "-123456.7800", sources.Text, "-123456.7800", -123456.78},
	{"DECIMAL(65,0)", "1e30", sources.Text, "1000000000000000000000000000000", 1e30},
	{"BIT(1)", "b'1'", sources.Uint64, "1", 1},
	{"BIT(1)", "b'0'", sources.Uint64, "0", 0},
	{"BIT(12)", "b'100000000001'", sources.Uint64, "2049", 2049},
	{"BIT(64)", "18446744073709551615", sources.Uint64, "18446744073709551615", math.MaxUint64},
	{"YEAR", "2026", sources.Int64, "2026", 2026},
	{"YEAR", "0", sources.Int64, "0", 0},
	{"DATE", "'2026-07-01'", sources.Time, "2026-07-01T00:00:00Z", 1782864000},
	{"DATE", "'0000-00-00'", sources.Null, "", 0},
	{"DATE", "'2026-02-00'", sources.Null, "", 0},
	{"DATE", "'9999-12-31'", sources.Time, "9999-12-31T00:00:00Z", 253402214400},
	{"DATETIME", "'2026-07-01 12:00:00'", sources.Time, "2026-07-01T12:00:00Z", 1782907200},
	{"DATETIME(6)", "'1999-12-31 23:59:59.75'", sources.Time, "1999-12-31T23:59:59.75Z", 946684799.75},
	{"DATETIME", "'0000-00-00 00:00:00'", sources.Null, "", 0},
	{"TIMESTAMP(3) NULL", "'2026-07-01 12:00:00.25'", sources.Time, "2026-07-01T12:00:00.25Z", 1782907200.25},
	{"TIMESTAMP NULL", "'0000-00-00 00:00:00'", sources.Null, "", 0},
	{"TIME", "'13:14:15'", sources.Float64, "47655", 47655},
	{"TIME", "'-838:59:59'", sources.Float64, "-3.020399e+06", -3020399},
	{"TIME(6)", "'00:00:00.000001'", sources.Float64, "1e-06", 0.000001},
	{"TIME(2)", "'-00:00:01.50'", sources.Float64, "-1.5", -1.5},
	{"CHAR(4)", "'3 '", sources.Text, "3", 3},
	{"VARCHAR(9)", "'grün ✓'", sources.Text, "grün ✓", 0},
	{"VARCHAR(9) CHARACTER SET latin1", "'grün'", sources.Text, "grün", 0},
	{"VARCHAR(9)", "''", sources.Text, "", 0},
	{"TEXT", "'text'", sources.Text, "text", 0},
	{"BINARY(3)", "'a'", sources.Text, "a\x00\x00", 0},
	{"VARBINARY(9)", "x'00ff'", sources.Text, "\x00\xff", 0},
	{"BLOB", "x'00ff'", sources.Text, "\x00\xff", 0},
	{"ENUM('up','down')", "'down'", sources.Text, "down", 0},
	{"SET('a','b','c')", "'a,c'", sources.Text, "a,c", 0},
	{"JSON", `'{"a": [1, 2]}'`, sources.Text, `{"a": [1, 2]}`, 0},
	{"POINT", "POINT(1, 2)", sources.Text, "\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00@", 0},
	{"UUID", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", sources.Text, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", 0},
	{"INET6", "'2001:db8::1'", sources.Text, "2001:db8::1", 0},
	{"INT", "NULL", sources.Null, "", 0},
	{"VARCHAR(9)", "NULL", sources.Null, "", 0},
	{"DATETIME", "NULL", sources.Null, "", 0},
	{"BIT(8)", "NULL", sources.Null, "", 0},
}

func TestMySQLTypes(t *testing.T) {
	m := sharedMariaDB.Get(t)
	var columns, values []string
	for i, test := range mysqlTypes {
		columns = append(columns, fmt.Sprintf("c%d %s", i, test.column))
		values = append(values, test.value)
	}
	// What a strict server refuses, it may hold from a time when it did not.
	m.Exec(t, "CREATE OR REPLACE TABLE typed ("+strings.Join(columns, ", ")+")",
		"SET sql_mode = ''", "INSERT INTO typed VALUES ("+strings.Join(values, ", ")+")")
	rows := 0
	err := open(t, mysqlSource(m, m.Account(t, "SELECT"))).Query(t.Context(), query("SELECT * FROM typed"), func(r *sources.Row) error {
		rows++
		for i, test := range mysqlTypes {
			v := r.Values[i]
			if got := string(v.AppendText(nil)); v.Kind() != test.kind || got != test.label {
				t.Errorf("%s %s: kind %d, label %q, want %d, %q", test.column, test.value, v.Kind(), got, test.kind, test.label)
			}
			sample, err := v.Float()
			if err != nil && test.sample != 0 || err == nil && sample != test.sample {
				t.Errorf("%s %s: sample %v, %v, want %v", test.column, test.value, sample, err, test.sample)
			}
		}
		return nil
	})
	if err != nil || rows != 1 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// Times are those that they are on the server, in whatever zone it prints them:
// the moment of a TIMESTAMP is the same in all of them, and NOW is now.
func TestMySQLZones(t *testing.T) {
	m := sharedMariaDB.Get(t)
	m.Exec(t, "CREATE OR REPLACE TABLE moments (v TIMESTAMP NULL)",
		"SET time_zone = '+00:00'", "INSERT INTO moments VALUES ('2026-07-01 12:00:00')")
	user := m.Account(t, "SELECT")
	for _, zone := range []string{"SYSTEM", "+00:00", "+05:45", "-03:30"} {
		t.Run(zone, func(t *testing.T) {
			c := mysqlSource(m, user)
			c.StartupSQL = []string{"SET time_zone = '" + zone + "'"}
			err := open(t, c).Query(t.Context(), query("SELECT v, NOW(6), UNIX_TIMESTAMP(NOW(6)), @@time_zone FROM moments"), func(r *sources.Row) error {
				at, _ := r.Values[0].Float()
				now, _ := r.Values[1].Float()
				unix, _ := r.Values[2].Float()
				if at != 1782907200 || math.Abs(now-unix) > 1e-5 {
					t.Errorf("TIMESTAMP is %v, NOW %v at %v", at, now, unix)
				}
				if got := string(r.Values[3].AppendText(nil)); got != zone {
					t.Errorf("zone is %s", got)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSessionZone(t *testing.T) {
	const london = 0 // in winter, and an hour more in summer
	for _, test := range []struct {
		name, system string
		offset       int
		want         string
	}{
		{"UTC", "", 0, "UTC"},
		{"SYSTEM", "UTC", 0, "UTC"},
		{"SYSTEM", "CEST", 7200, ""},
		{"+05:45", "UTC", 20700, ""},
		{"Asia/Tokyo", "UTC", 9 * 3600, "Asia/Tokyo"},
		{"Asia/Tokyo", "UTC", 3600, ""}, // another idea of the zone than ours
		{"", "", 3600, ""},
		{"Local", "", london, ""},
		{"../etc/passwd", "", 60, ""},
	} {
		t.Run(fmt.Sprint(test.name, " ", test.system, " ", test.offset), func(t *testing.T) {
			zone := sources.SessionZone(test.name, test.system, test.offset)
			if diff := cmp.Diff(test.want, zone.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever a server sends as a time, it is a time, NULL or its text.
func FuzzMySQLTimes(f *testing.F) {
	for _, text := range []string{"2026-07-01", "2026-07-01 12:00:00.25", "0000-00-00", "-838:59:59.999999", "", "-", ":::", "9999999999-1-1", "1-1-1 1:1:1."} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for what, v := range map[string]sources.Value{"moment": sources.ParseMoment(text), "duration": sources.ParseDuration(text)} {
			switch v.Kind() {
			case sources.Null, sources.Time, sources.Float64:
			case sources.Text:
				if string(v.AppendText(nil)) != string(text) {
					t.Errorf("%s %q is the text %q", what, text, v.AppendText(nil))
				}
			default:
				t.Errorf("%s %q has kind %d", what, text, v.Kind())
			}
		}
	})
}
