package config

import (
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// asConfigured compares configurations by what they mean.
var asConfigured = cmp.Options{
	cmp.Comparer(labels.Equal),
	cmp.Comparer(func(a, b *url.URL) bool {
		return a == nil && b == nil || a != nil && b != nil && a.String() == b.String()
	}),
	cmp.Comparer(func(a, b relabel.Regexp) bool { return a.String() == b.String() }),
	cmpopts.IgnoreUnexported(promconfig.ProxyConfig{}),
	cmp.Comparer(func(a, b *Schedule) bool { return reflect.DeepEqual(a, b) }),
	cmp.Comparer(func(a, b *time.Location) bool { return a == b || a != nil && b != nil && a.String() == b.String() }),
	cmpopts.IgnoreFields(Config{}, "Files"),
	cmpopts.EquateEmpty(),
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// withDefaults gives endpoints the defaults of what their files leave out.
func withDefaults(endpoints ...RemoteWrite) []RemoteWrite {
	d := DefaultRemoteWrite()
	for i := range endpoints {
		e := &endpoints[i]
		e.StartAt, e.MetadataConfig = d.StartAt, d.MetadataConfig
		e.SendExemplars, e.SendNativeHistograms = d.SendExemplars, d.SendNativeHistograms
	}
	return endpoints
}

// withClocks gives queries the defaults of what their files leave out.
func withClocks(c Config) Config {
	for i := range c.Sources {
		s := &c.Sources[i]
		switch s.Type {
		case TypePrometheus:
			if s.BodySizeLimit == 0 {
				s.BodySizeLimit = 64 << 20
			}
			if s.Scrape.Protocols == nil {
				s.Scrape.Protocols = textProtocols
			}
			s.Scrape.Compression, s.Scrape.HonorTimestamps = true, true
		case TypeHTTPJSON:
		case TypeSQLite:
			s.MaxResultBytes = 64 << 20
		default:
			s.MaxConnectionLifetime, s.MaxResultBytes = 30*time.Minute, 64<<20
		}
		for i := range s.Queries {
			q := &s.Queries[i]
			q.Clock.RunOnStart, q.Clock.ResendInterval, q.Clock.StaleAfter = true, time.Minute, 5*time.Minute
			q.Clock.OnError, q.Policies.OnLimit = OnErrorStale, OnLimitDrop
			for j := range q.Metrics {
				q.Metrics[j].OnNull, q.Metrics[j].OnDuplicate = OnNullSkip, OnDuplicateFirst
			}
		}
	}
	return c
}

// TestGood loads configurations that use every field, and the shortest ones.
func TestGood(t *testing.T) {
	orders := func() []Query {
		return []Query{{
			Name:      "by_status",
			Collector: "orders",
			SQL:       "SELECT status, count(*) AS n, sum(amount) AS amount FROM orders WHERE note <> '$PGHOST ${PGHOST}' GROUP BY 1",
			Clock:     Clock{Interval: time.Minute},
			Timeout:   5 * time.Second,
			Metrics: []Metric{
				{Name: "orders", Type: Gauge, Help: "Orders by status.", KeyLabels: []string{"status"}, Values: []string{"n"}},
				{
					Name: "orders_amount_total", Type: Counter, Help: "Money.", KeyLabels: []string{"status"},
					StaticLabels: map[string]string{"currency": "EUR"}, Values: []string{"amount"},
				},
			},
		}}
	}
	wait := Query{
		Name:      "pg_wait",
		Collector: "shop_wait",
		SQL:       "SELECT wait_event, 1 AS waiting, 2 AS running FROM pg_stat_activity\n",
		Clock:     Clock{Interval: 30 * time.Second},
		Timeout:   10 * time.Second,
		Metrics: []Metric{{
			Name: "pg_wait", Type: Gauge, Help: "Waiting backends.", KeyLabels: []string{"wait_event"},
			Values: []string{"waiting", "running"}, ValueLabel: "kind",
		}},
	}
	short := Default()
	short.Global.ScrapeInterval, short.Global.ScrapeTimeout = 5*time.Second, 5*time.Second
	short.Sources = []Source{{
		Name: "db", Type: TypePostgres, Host: "127.0.0.1", Port: 5432, User: "mon", TLS: TLS{Mode: "prefer"},
		Job: "postgres", Instance: "127.0.0.1:5432", MaxConnections: 2, Interval: 5 * time.Second, Timeout: 5 * time.Second,
		Queries: []Query{
			{Name: "a", Collector: "c", SQL: "SELECT 1 AS v", Clock: Clock{Interval: 5 * time.Second}, Timeout: 5 * time.Second, Metrics: []Metric{{Name: "a", Type: Gauge, Values: []string{"v"}}}},
			{Name: "a_2", Collector: "c", SQL: "SELECT 2 AS v", Clock: Clock{Interval: 5 * time.Second}, Timeout: 5 * time.Second, Metrics: []Metric{{Name: "a", Type: Gauge, StaticLabels: map[string]string{"of": "b"}, Values: []string{"v"}}}},
		},
	}}

	for name, want := range map[string]Config{
		"full": {
			Global: Global{
				ScrapeInterval: 30 * time.Second, ScrapeTimeout: 10 * time.Second,
				ExternalLabels: labels.FromStrings("cluster", "eu1", "price", "$5 in eu1", "__replica__", "a"),
			},
			Limits:  Limits{MaxSeries: 100000},
			Self:    Self{Enabled: true, Interval: 15 * time.Second, Job: "agent", Instance: "db.example.com:9399"},
			Storage: Storage{Path: "data", MaxBytes: 256 << 20, MaxAge: 12 * time.Hour, MinFree: 128 << 20, Fsync: FsyncAlways, FsyncInterval: 2 * time.Second, DeadLetterMaxBytes: 64 << 20},
			RemoteWrite: withDefaults(
				RemoteWrite{
					URL: mustURL("https://mimir/api/v1/push"), Name: "mimir", RemoteTimeout: 30 * time.Second,
					Headers: map[string]Secret{"X-Scope-OrgID": NewSecret("dba")},
					WriteRelabel: []*relabel.Config{
						{
							SourceLabels: model.LabelNames{"__name__"}, Separator: ";", Regex: relabel.MustNewRegexp("go_.*"),
							Replacement: "$1", Action: relabel.Drop, NameValidationScheme: model.UTF8Validation,
						},
						{
							SourceLabels: model.LabelNames{"a", "b"}, Regex: relabel.MustNewRegexp("(.*)"), TargetLabel: "c",
							Action: relabel.Replace, NameValidationScheme: model.UTF8Validation,
						},
						{
							SourceLabels: model.LabelNames{"a"}, Separator: ";", Regex: relabel.MustNewRegexp("(.*)"), Modulus: 8, TargetLabel: "shard",
							Replacement: "$1", Action: relabel.HashMod, NameValidationScheme: model.UTF8Validation,
						},
					},
					HTTP:  promconfig.HTTPClientConfig{BasicAuth: &promconfig.BasicAuth{Username: "u", PasswordFile: "testdata/good/secrets/mimir"}},
					Queue: DefaultRemoteWrite().Queue,
				},
				RemoteWrite{
					URL: mustURL("http://prometheus:9090/api/v1/write"), Name: "ebc87874", RemoteTimeout: time.Minute, Protocol: ProtocolV1,
					HTTP: promconfig.HTTPClientConfig{
						Authorization: &promconfig.Authorization{Type: "Token", Credentials: "s3cr$t"},
						EnableHTTP2:   true,
					},
					Queue: Queue{MaxShards: 8, MaxSamplesPerSend: 500, BatchSendDeadline: time.Second, MinBackoff: 100 * time.Millisecond, MaxBackoff: 10 * time.Second},
				},
				RemoteWrite{
					URL: mustURL("https://thanos/api/v1/receive"), Name: "73996efe", RemoteTimeout: 30 * time.Second,
					HTTP: promconfig.HTTPClientConfig{
						BasicAuth: &promconfig.BasicAuth{Username: "u", Password: "s3cr$t"},
						TLSConfig: promconfig.TLSConfig{CAFile: "testdata/good/secrets/ca.pem", ServerName: "thanos", MinVersion: promconfig.TLSVersions["TLS12"]},
						ProxyConfig: promconfig.ProxyConfig{
							ProxyURL: promconfig.URL{URL: mustURL("http://proxy:3128")}, NoProxy: "localhost",
						},
					},
					Queue: DefaultRemoteWrite().Queue,
				},
				RemoteWrite{
					URL: mustURL("http://bearer/"), Name: "61f33a48", RemoteTimeout: 30 * time.Second,
					HTTP: promconfig.HTTPClientConfig{
						Authorization: &promconfig.Authorization{Type: "Bearer", Credentials: "s3cr$t"},
						TLSConfig: promconfig.TLSConfig{
							InsecureSkipVerify: true, MaxVersion: promconfig.TLSVersions["TLS13"],
							CertFile: "testdata/good/secrets/ca.pem", KeyFile: "testdata/good/secrets/ca.pem",
						},
						ProxyConfig: promconfig.ProxyConfig{ProxyFromEnvironment: true},
					},
					Queue: DefaultRemoteWrite().Queue,
				},
				RemoteWrite{
					URL: mustURL("http://files/"), Name: "5034c9a0", RemoteTimeout: 30 * time.Second,
					HTTP:  promconfig.HTTPClientConfig{BasicAuth: &promconfig.BasicAuth{UsernameFile: "testdata/good/secrets/pg", Password: "p"}},
					Queue: DefaultRemoteWrite().Queue,
				},
			),
			Sources: []Source{
				{
					Name: "orders", Type: TypePostgres, Host: "db.example.com", Port: 6432, User: "mon",
					PasswordFile: "testdata/good/secrets/pg", Database: "app",
					TLS: TLS{
						Mode: "verify-full", CAFile: "testdata/good/secrets/ca.pem", CertFile: "testdata/good/secrets/ca.pem",
						KeyFile: "testdata/good/secrets/ca.pem", ServerName: "db",
					},
					Job: "pg", Instance: "orders-0:5432", Labels: labels.FromStrings("team", "shop", "region", "eu1"),
					MaxConnections: 3, Interval: 30 * time.Second, Timeout: 10 * time.Second,
					Queries: append(orders(), wait),
				},
				{
					Name: "orders-dsn", Type: TypePostgres, DSN: NewSecret("postgres://mon:pa$$word@127.0.0.1:5433/app?sslmode=disable"), Password: NewSecret("${literal}"),
					Job: "postgres", Instance: "127.0.0.1:5433",
					MaxConnections: 2, Interval: 30 * time.Second, Timeout: 10 * time.Second,
					Queries: orders(),
				},
				{
					Name: "files", Type: TypeSQLite, Path: "testdata/app.db",
					Job: "sqlite", Instance: "../app.db",
					MaxConnections: 2, Interval: 30 * time.Second, Timeout: 10 * time.Second,
					Queries: orders(),
				},
				{
					Name: "file-dsn", Type: TypeSQLite, DSN: NewSecret("file:/var/lib/app.db?mode=ro"),
					Job: "sqlite", Instance: "/var/lib/app.db",
					MaxConnections: 2, Interval: 30 * time.Second, Timeout: 10 * time.Second,
				},
			},
		},
		"short":    short,
		"only_log": Default(),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load("testdata/good/"+name+".yml", Options{Getenv: testEnv})
			if err != nil {
				t.Fatal(err)
			}
			want = withClocks(want)
			if diff := cmp.Diff(&want, got, asConfigured); diff != "" {
				t.Errorf("configuration differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAnchors loads two spellings of one configuration, with aliases and merge
// keys and written out.
func TestAnchors(t *testing.T) {
	plain, err := Load("testdata/good/anchors_written_out.yml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	aliased, err := Load("testdata/good/anchors.yml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain, aliased, asConfigured); diff != "" {
		t.Errorf("aliases mean something else (-written out +aliased):\n%s", diff)
	}
}

// TestDesignExample loads the example of the documentation, less what this
// version does not have.
func TestDesignExample(t *testing.T) {
	c, err := Load("testdata/good/design.yml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Sources) != 1 || len(c.Sources[0].Queries) != 1 || len(c.Sources[0].Queries[0].Metrics) != 2 {
		t.Errorf("got sources %+v, want one with one query of two metrics", c.Sources)
	}
}

// TestGates loads gates of queries and sources over many databases, whose
// metrics have one label more.
func TestGates(t *testing.T) {
	c, err := Load("testdata/good/gates.yml", Options{})
	if err != nil {
		t.Fatal(err)
	}
	pg, my, one := c.Sources[0], c.Sources[1], c.Sources[2]
	want := Requires{
		Role: RolePrimary, Extensions: []string{"pg_stat_statements"},
		Version: VersionRange{Bounds: []VersionBound{{">=", []int{13}}, {"<", []int{18}}}},
	}
	if diff := cmp.Diff(want, one.Queries[0].Requires); diff != "" {
		t.Errorf("gate differs (-want +got):\n%s", diff)
	}
	if r := one.Queries[1].Requires.Version; r.Product != "mariadb" || r.String() != "mariadb >=10.5" {
		t.Errorf("range is %s", r)
	}
	for name, want := range map[string]bool{"shop": true, "app_1": true, "app_test": false, "myshop": false, "shops": false} {
		if pg.Databases.Holds(name) != want || !my.Databases.Holds(name) {
			t.Errorf("%s is selected: %v, %v", name, !want, my.Databases.Holds(name))
		}
	}
	var labels [][]string
	for _, s := range []Source{pg, my, one} {
		labels = append(labels, s.Queries[0].Metrics[0].KeyLabels)
	}
	if diff := cmp.Diff([][]string{{"k", "datname"}, {"k", "schema"}, {"k"}}, labels); diff != "" {
		t.Errorf("labels differ (-want +got):\n%s", diff)
	}
}

// TestStoragePath: the command line replaces storage.path, and neither is
// relative to the configuration.
func TestStoragePath(t *testing.T) {
	for name, c := range map[string]struct{ option, want string }{
		"of the file":         {"", "data"},
		"of the command line": {"elsewhere", "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load("testdata/good/only_log.yml", Options{StoragePath: c.option})
			if err != nil {
				t.Fatal(err)
			}
			if got.Storage.Path != c.want {
				t.Errorf("got %q, want %q", got.Storage.Path, c.want)
			}
		})
	}
}

// TestCopies: sources that select one collector share nothing that can be changed.
func TestCopies(t *testing.T) {
	for file, first := range map[string]string{
		"types":     "- {name: s, type: sqlite, path: ../app.db, collectors: [types]}",
		"http_json": "- {name: again, type: http_json, url: \"http://[::1]/\", collectors: [api], body_size_limit: 0}",
	} {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile("testdata/good/" + file + ".yml")
			if err != nil {
				t.Fatal(err)
			}
			second := strings.Replace(first, "name: ", "name: second_", 1)
			c, err := load("testdata/good/two.yml", []byte(strings.Replace(string(text), first, first+"\n  "+second, 1)), Options{Getenv: testEnv})
			if err != nil {
				t.Fatal(err)
			}
			last := len(c.Sources) - 1
			a, b := c.Sources[last-1].Queries, c.Sources[last].Queries
			if len(a) == 0 || !reflect.DeepEqual(a, b) {
				t.Error("the queries of two sources differ")
			}
			shared(t, "queries", reflect.ValueOf(a), reflect.ValueOf(b))
		})
	}
}

// shared reports the memory that two equal values have in common, but for what
// nobody writes to: time zones and schedules.
func shared(t *testing.T, path string, a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if a.Type() == reflect.TypeFor[*time.Location]() || a.Type() == reflect.TypeFor[*Schedule]() || a.IsNil() {
			return
		}
		if a.Pointer() == b.Pointer() && (a.Kind() != reflect.Slice || a.Cap() > 0) {
			t.Errorf("%s is shared", path)
		}
	}
	switch a.Kind() {
	case reflect.Pointer:
		shared(t, path, a.Elem(), b.Elem())
	case reflect.Slice:
		for i := range a.Len() {
			shared(t, path, a.Index(i), b.Index(i))
		}
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	}
}
