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
	"ARRAY[1,2,NULL]":                             {sources.Text, "=", 0},
	"ARRAY['a b','c']":                            {sources.Text, "=", 0},
	"'(1,2)'::point":                              {sources.Text, "=", 0},
	"'[1,5)'::int4range":                          {sources.Text, "=", 0},
	"row(1,'a')":                                  {sources.Text, "=", 0},
	"'up'::servicestate":                          {sources.Text, "=", 0},
	"12::domained":                                {sources.Int64, "=", 12},
	"'postgres=r/postgres'::aclitem":              {sources.Text, "=", 0}, // has no binary form at all
	"'pg_class'::regclass":                        {sources.Text, "=", 0},
	"'1 year 2 mons'::interval":                   {sources.Float64, "3.67416e+07", 36741600},
	"'2026-07-01 BC'::date":                       {sources.Time, "-2025-07-01T00:00:00Z", -126054403200},
	"'0044-03-15 12:00:00 BC'::timestamp":         {sources.Time, "-0043-03-15T12:00:00Z", -63517780800},
	"'-infinity'::date":                           {sources.Float64, "-Inf", math.Inf(-1)},
	"'infinity'::timestamp":                       {sources.Float64, "+Inf", math.Inf(1)},
	"'294276-12-31'::timestamp":                   {sources.Time, "294276-12-31T00:00:00Z", 9224318016000 - 86400},
	"'13:14:15+02'::timetz":                       {sources.Text, "=", 0},
	"B'1011'::varbit":                             {sources.Text, "=", 1011},
	"'abc'::citext":                               {sources.Text, "=", 0},
	"'a=>1'::hstore":                              {sources.Text, "=", 0},
	"ARRAY[[1,2],[3,4]]":                          {sources.Text, "=", 0},
	"'{}'::text[]":                                {sources.Text, "=", 0},
	"ARRAY['2026-07-01'::date]":                   {sources.Text, "=", 0},
	"ARRAY['up']::servicestate[]":                 {sources.Text, "=", 0},
	"'empty'::int4range":                          {sources.Text, "=", 0},
	"'(,5)'::int8range":                           {sources.Text, "=", 0},
	"'[1.5,2]'::numrange":                         {sources.Text, "=", 0},
	"'[2026-01-01,2026-02-01)'::daterange":        {sources.Text, "=", 0},
	"'[2026-01-01,2026-02-01)'::tsrange":          {sources.Text, "=", 0},
	"tstzrange(NULL, NULL)":                       {sources.Text, "=", 0},
	"'{[1,3),[5,9)}'::int4multirange":             {sources.Text, "=", 0},
	"(1, 'a', NULL)::composed":                    {sources.Text, "=", 0},
	"'{1,2,3}'::line":                             {sources.Text, "=", 0},
	"'((0,0),(1,1))'::lseg":                       {sources.Text, "=", 0},
	"'((0,0),(1,1))'::box":                        {sources.Text, "=", 0},
	"'((0,0),(1,1))'::path":                       {sources.Text, "=", 0},
	"'((0,0),(1,1))'::polygon":                    {sources.Text, "=", 0},
	"'<(0,0),1>'::circle":                         {sources.Text, "=", 0},
	"'08:00:2b:01:02:03:04:05'::macaddr8":         {sources.Text, "=", 0},
	"'a & b'::tsquery":                            {sources.Text, "=", 0},
	"to_tsvector('a b')":                          {sources.Text, "=", 0},
	"'$.a'::jsonpath":                             {sources.Text, "=", 0},
	"'10:20:10,14'::pg_snapshot":                  {sources.Text, "=", 0},
	"'(1,2)'::tid":                                {sources.Text, "=", 0},
	"'1 2'::int2vector":                           {sources.Text, "=", 0},
	"'1 2'::oidvector":                            {sources.Text, "=", 0},
	"'int4'::regtype":                             {sources.Text, "=", 0},
	"'postgres'::regrole":                         {sources.Text, "=", 0},
	"'pg_catalog'::regnamespace":                  {sources.Text, "=", 0},
	"'\"C\"'::regcollation":                       {sources.Text, "=", 0},
	"'+(int,int)'::regoperator":                   {sources.Text, "=", 0},
	"'english'::regconfig":                        {sources.Text, "=", 0},
	"'simple'::regdictionary":                     {sources.Text, "=", 0},
	"'$1,234.50'::money":                          {sources.Text, "=", 0},
	"'{[1,3)}'::int8multirange":                   {sources.Text, "=", 0},
	"'{[1.5,3)}'::nummultirange":                  {sources.Text, "=", 0},
	"'{[2026-01-01,2026-02-01)}'::datemultirange": {sources.Text, "=", 0},
	"'{[2026-01-01,2026-02-01)}'::tsmultirange":   {sources.Text, "=", 0},
	"'{[2026-01-01,2026-02-01)}'::tstzmultirange": {sources.Text, "=", 0},
	"'bool_and'::regproc":                         {sources.Text, "=", 0},
	"'||/'::regoper":                              {sources.Text, "=", 0},
	"'lower(text)'::regprocedure":                 {sources.Text, "=", 0},
	"'10:20:10,14'::txid_snapshot":                {sources.Text, "=", 0},
	"'x'::refcursor":                              {sources.Text, "=", 0},
	"NULL::numeric":                               {sources.Null, "", 0},
	"NULL":                                        {sources.Null, "", 0},
	"'plain literal'":                             {sources.Text, "=", 0},
}

func TestPostgresTypes(t *testing.T) {
	pg := shared.Get(t)
	pg.Exec(t, "CREATE TYPE servicestate AS ENUM ('up', 'down')", "CREATE DOMAIN domained AS int",
		"CREATE TYPE composed AS (a int, b text, c date)", "CREATE EXTENSION hstore", "CREATE EXTENSION citext")
	t.Cleanup(func() {
		pg.Exec(t, "DROP TYPE servicestate", "DROP DOMAIN domained", "DROP TYPE composed", "DROP EXTENSION hstore", "DROP EXTENSION citext")
	})
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

// TestPostgresBaseTypes: the table above has every base type, range and
// multirange that a column can have.
func TestPostgresBaseTypes(t *testing.T) {
	pg := shared.Get(t)
	tried := map[string]bool{}
	for expression := range pgTypes {
		if strings.Contains(expression, "servicestate") || strings.Contains(expression, "domained") || strings.Contains(expression, "composed") ||
			strings.Contains(expression, "hstore") || strings.Contains(expression, "citext") {
			continue
		}
		tried[pg.Query(t, "SELECT pg_typeof("+expression+")::regtype::oid::regtype::text")[0][0]] = true
	}
	// A gtsvector has no text that it is read from: it stands in indexes only.
	for _, row := range pg.Query(t, `SELECT oid::regtype::text FROM pg_type WHERE typtype IN ('b', 'r', 'm') AND typnamespace = 'pg_catalog'::regnamespace
		AND typelem = 0 AND typarray <> 0 AND typname <> 'gtsvector' ORDER BY 1`) {
		if !tried[row[0]] {
			t.Errorf("type %s is not tried", row[0])
		}
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
