package sources_test

import (
	"math"
	"strings"
	"testing"

	"sql2metrics/sources"
)

// pgTypes says for every type what its values become: the kind, the label and
// the sample; a label of "=" is the server's own text.
var pgTypes = map[string]struct {
	kind   sources.Kind
	label  string
	sample float64
}{
	"true":                                  {sources.Bool, "=", 1},
	"false":                                 {sources.Bool, "=", 0},
	"(-32768)::int2":                        {sources.Int64, "=", -32768},
	"(-2147483648)::int4":                   {sources.Int64, "=", math.MinInt32},
	"9223372036854775807::int8":             {sources.Int64, "=", math.MaxInt64},
	"4294967295::oid":                       {sources.Uint64, "=", math.MaxUint32},
	"'7'::xid":                              {sources.Uint64, "=", 7},
	"'8'::cid":                              {sources.Uint64, "=", 8},
	"'18446744073709551615'::xid8":          {sources.Uint64, "=", math.MaxUint64},
	"0.1::float4":                           {sources.Float64, "=", 0.1},
	"'NaN'::float4":                         {sources.Float64, "=", math.NaN()},
	"'-Infinity'::float8":                   {sources.Float64, "-Inf", math.Inf(-1)},
	"1.5e300::float8":                       {sources.Float64, "=", 1.5e300},
	"0::numeric":                            {sources.Text, "=", 0},
	"0.000::numeric(10,3)":                  {sources.Text, "=", 0},
	"12345678.9012::numeric":                {sources.Text, "=", 12345678.9012},
	"(-0.00000123)::numeric":                {sources.Text, "=", -0.00000123},
	"10000::numeric":                        {sources.Text, "=", 10000},
	"100000000000000000000.50::numeric":     {sources.Text, "=", 100000000000000000000.50},
	"1e30::numeric":                         {sources.Text, "=", 1e30},
	"1e-20::numeric":                        {sources.Text, "=", 1e-20},
	"'NaN'::numeric":                        {sources.Float64, "=", math.NaN()},
	"'Infinity'::numeric":                   {sources.Float64, "+Inf", math.Inf(1)},
	"'-Infinity'::numeric":                  {sources.Float64, "-Inf", math.Inf(-1)},
	"'grün'::text":                          {sources.Text, "=", 0},
	"''::text":                              {sources.Text, "=", 0},
	"'v'::varchar":                          {sources.Text, "=", 0},
	"'3 '::char(4)":                         {sources.Text, "3   ", 3},
	"'n'::name":                             {sources.Text, "=", 0},
	"'c'::\"char\"":                         {sources.Text, "=", 0},
	"'{\"a\": 1}'::json":                    {sources.Text, "=", 0},
	"'{\"a\": 1}'::jsonb":                   {sources.Text, "=", 0},
	"'<a/>'::xml":                           {sources.Text, "=", 0},
	"'2026-07-01'::date":                    {sources.Time, "2026-07-01T00:00:00Z", 1782864000},
	"'1999-12-31'::date":                    {sources.Time, "1999-12-31T00:00:00Z", 946598400},
	"'infinity'::date":                      {sources.Float64, "+Inf", math.Inf(1)},
	"'2026-07-01 12:00:00.25'::timestamp":   {sources.Time, "2026-07-01T12:00:00.25Z", 1782907200.25},
	"'1999-12-31 23:59:59.75'::timestamp":   {sources.Time, "1999-12-31T23:59:59.75Z", 946684799.75},
	"'2026-07-01 12:00:00+02'::timestamptz": {sources.Time, "2026-07-01T10:00:00Z", 1782900000},
	"'-infinity'::timestamptz":              {sources.Float64, "-Inf", math.Inf(-1)},
	"'1 day 01:00:00.5'::interval":          {sources.Float64, "90000.5", 90000.5},
	"'-3 seconds'::interval":                {sources.Float64, "-3", -3},
	"'00:00'::interval":                     {sources.Float64, "0", 0},
	"'13:14:15'::time":                      {sources.Text, "=", 0},
	"'$12.50'::money":                       {sources.Text, "=", 0},
	"B'1'":                                  {sources.Text, "=", 1},
	"'\\xdead'::bytea":                      {sources.Text, "=", 0},
	"'16/B374D848'::pg_lsn":                 {sources.Text, "=", 0},
	"'10.0.0.1'::inet":                      {sources.Text, "10.0.0.1", 0},
	"'10.0.0.0/8'::cidr":                    {sources.Text, "=", 0},
	"'08:00:2b:01:02:03'::macaddr":          {sources.Text, "=", 0},
	"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid": {sources.Text, "=", 0},
	"ARRAY[1,2,NULL]":                {sources.Text, "=", 0},
	"ARRAY['a b','c']":               {sources.Text, "=", 0},
	"'(1,2)'::point":                 {sources.Text, "=", 0},
	"'[1,5)'::int4range":             {sources.Text, "=", 0},
	"row(1,'a')":                     {sources.Text, "=", 0},
	"'up'::servicestate":             {sources.Text, "=", 0},
	"12::domained":                   {sources.Int64, "=", 12},
	"'postgres=r/postgres'::aclitem": {sources.Text, "=", 0}, // has no binary form at all
	"'pg_class'::regclass":           {sources.Text, "=", 0},
	"NULL::numeric":                  {sources.Null, "", 0},
	"NULL":                           {sources.Null, "", 0},
	"'plain literal'":                {sources.Text, "=", 0},
}

func TestPostgresTypes(t *testing.T) {
	pg := shared.Get(t)
	pg.Exec(t, "CREATE TYPE servicestate AS ENUM ('up', 'down')", "CREATE DOMAIN domained AS int")
	t.Cleanup(func() { pg.Exec(t, "DROP TYPE servicestate", "DROP DOMAIN domained") })
	s := open(t, pgSource(pg))
	// A neighbour that has no binary form must not change a value.
	for name, neighbour := range map[string]string{"alone": "", "beside an array": ", ARRAY[1]"} {
		t.Run(name, func(t *testing.T) {
			for expression, want := range pgTypes {
				err := s.Query(t.Context(), query("SELECT "+expression+", ("+expression+")::text"+neighbour), func(r *sources.Row) error {
					v := r.Values[0]
					label := want.label
					if label == "=" {
						label = string(r.Values[1].AppendText(nil))
					}
					if got := string(v.AppendText(nil)); v.Kind() != want.kind || got != label {
						t.Errorf("%s: kind %d, label %q, want %d, %q", expression, v.Kind(), got, want.kind, label)
					}
					sample, err := v.Float()
					switch {
					case err != nil && want.sample != 0:
						t.Errorf("%s: %v", expression, err)
					case err == nil && sample != want.sample && !(math.IsNaN(sample) && math.IsNaN(want.sample)):
						t.Errorf("%s: sample %v, want %v", expression, sample, want.sample)
					}
					return nil
				})
				if err != nil {
					t.Errorf("%s: %v", expression, err)
				}
			}
		})
	}
}

// Intervals are as long as the server says, numerics print as it does.
func TestPostgresAgreesWithServer(t *testing.T) {
	s := open(t, pgSource(shared.Get(t)))
	err := s.Query(t.Context(), query(`
		SELECT make_interval(months => n * 7 - 300, days => n - 50, secs => n * 1.25) AS length,
			extract(epoch FROM make_interval(months => n * 7 - 300, days => n - 50, secs => n * 1.25))::float8 AS seconds,
			number, number::text
		FROM generate_series(1, 500) n,
			LATERAL (SELECT (random()::numeric * 10::numeric ^ (n % 25) - 5) / (1 + n % 7 * 1000)::numeric AS number) x`),
		func(r *sources.Row) error {
			length, _ := r.Values[0].Float()
			seconds, _ := r.Values[1].Float()
			if math.Abs(length-seconds) > 1e-6 {
				t.Errorf("interval of %v s is read as %v", seconds, length)
			}
			if fields := strings.Split(line(r), "|"); fields[2] != fields[3] {
				t.Errorf("numeric %s is read as %s", fields[3], fields[2])
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
}

// A column that changes its type under a query is read in its new type.
func TestPostgresColumnChangesType(t *testing.T) {
	pg := shared.Get(t)
	pg.Exec(t, "DROP TABLE IF EXISTS changing", "CREATE TABLE changing (v int); INSERT INTO changing VALUES (12)")
	s := open(t, pgSource(pg))
	for _, step := range []struct{ alter, want string }{
		{"ALTER TABLE changing ALTER v TYPE int", "12"},
		{"ALTER TABLE changing ALTER v TYPE int[] USING ARRAY[v]", "{12}"},
		{"ALTER TABLE changing ADD w inet DEFAULT '10.0.0.1'", "{12}|10.0.0.1"},
		{"ALTER TABLE changing ALTER v TYPE interval USING '3 seconds'", "3|10.0.0.1"},
		{"ALTER TABLE changing DROP w", "3"},
	} {
		pg.Exec(t, step.alter)
		if got := read(t, s, "SELECT * FROM changing"); len(got) != 1 || got[0] != step.want {
			t.Errorf("after %s: %v", step.alter, got)
		}
	}
}
