package sources_test

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/sources"
)

// A value comes as it is stored, which the column's affinity and the value
// decide together; what the column was declared as means nothing beyond that.
func TestSQLiteAffinities(t *testing.T) {
	path := filepath.Join(t.TempDir(), "types.db")
	app := openApp(t, path)
	s := open(t, sqliteSource(path))
	for i, column := range []struct{ declared, stored, want string }{
		{"INTEGER", "1, '2', '3.0', 4.5, 'five', x'36', NULL", "int 1, int 2, int 3, float 4.5, text five, text 6, null "},
		{"BIGINT UNSIGNED", "9223372036854775807, 9223372036854775808", "int 9223372036854775807, float 9.223372036854776e+18"},
		{"REAL", "1, '2.5', 'three', NULL", "float 1, float 2.5, text three, null "},
		{"DOUBLE PRECISION", "-1e999, 0.1", "float -Inf, float 0.1"},
		{"TEXT", "1, 2.5, 'three', x'66', ''", "text 1, text 2.5, text three, text f, text "},
		{"VARCHAR(3)", "'longer than three'", "text longer than three"},
		{"BLOB", "1, '2', x'00ff'", "int 1, text 2, text \x00\xff"},
		{"", "1, '2'", "int 1, text 2"},
		{"DECIMAL(10, 2)", "1.50, '2.50', '3.00', 12345678901234567.89", "float 1.5, float 2.5, int 3, int 12345678901234568"},
		{"BOOLEAN", "TRUE, FALSE, 'true'", "int 1, int 0, text true"},
		{"DATE", "'2026-07-01', 1782864000", "text 2026-07-01, int 1782864000"},
		{"DATETIME", "'2026-07-01 12:00:00'", "text 2026-07-01 12:00:00"},
		{"INTEGER PRIMARY KEY", "-9223372036854775808, 7", "int -9223372036854775808, int 7"},
	} {
		table := fmt.Sprint("t", i)
		app.exec(t, "CREATE TABLE "+table+" (n "+column.declared+")")
		for _, value := range strings.Split(column.stored, ", ") {
			app.exec(t, "INSERT INTO "+table+" VALUES ("+value+")")
		}
		var got []string
		err := s.Query(t.Context(), query("SELECT n FROM "+table+" ORDER BY rowid"), func(r *sources.Row) error {
			v := r.Values[0]
			kind := map[sources.Kind]string{sources.Null: "null", sources.Int64: "int", sources.Float64: "float", sources.Text: "text"}[v.Kind()]
			got = append(got, kind+" "+string(v.AppendText(nil)))
			return nil
		})
		if diff := cmp.Diff(column.want, strings.Join(got, ", ")); diff != "" || err != nil {
			t.Errorf("%s: (-want +got):\n%s%v", column.declared, diff, err)
		}
	}
}

// Numbers that were stored as texts are samples too, blobs of digits as well.
func TestSQLiteSamples(t *testing.T) {
	s := open(t, sqliteSource(kept(t)))
	for expression, want := range map[string]float64{
		"9223372036854775807": math.MaxInt64,
		"'12.5'":              12.5,
		"' 7 '":               7,
		"x'3432'":             42,
		"-0.0":                0,
		"'true'":              1,
		"9e999":               math.Inf(1),
	} {
		err := s.Query(t.Context(), query("SELECT "+expression), func(r *sources.Row) error {
			if got, err := r.Values[0].Float(); err != nil || got != want {
				t.Errorf("%s is %v, %v", expression, got, err)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", expression, err)
		}
	}
}
