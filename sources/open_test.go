package sources_test

import (
	"strings"
	"testing"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// The caller names the source.
func TestOpenRefuses(t *testing.T) {
	dsn := func(dsn string) config.Source {
		return config.Source{Type: config.TypePostgres, DSN: config.NewSecret(dsn)}
	}
	for name, test := range map[string]struct {
		config config.Source
		want   string
	}{
		"unknown type":            {config.Source{Type: "oracle"}, `type "oracle" is not known`},
		"no user":                 {config.Source{Type: config.TypePostgres, Host: "db"}, "set user"},
		"no user in the dsn":      {dsn("postgres://db/app"), "set user"},
		"bad port":                {dsn("postgres://u:verysecret@db:port/app"), "cannot be read"},
		"bad words":               {dsn("user=u password='verysecret"), "cannot be read"},
		"bad sslmode":             {dsn("postgres://u:verysecret@db/app?sslmode=wat"), "set it to disable"},
		"bad sslmode in words":    {dsn("user=u password=verysecret sslmode=wat"), "set it to disable"},
		"bad escape":              {dsn("postgres://u:verysecret%ZZ@db/app"), "percent-encoded"},
		"bad escape behind":       {dsn("postgres://u:verysecret@db/app?application_name=%ZZ"), "percent-encoded"},
		"bad escape in host":      {dsn("postgres://u:verysecret@%ZZ/app"), "percent-encoded"},
		"slash in the password":   {dsn("postgres://u:very/secret@db/app"), "percent-encoded"},
		"bad timeout":             {dsn("postgres://u:verysecret@db/app?connect_timeout=verysecret"), "cannot be read"},
		"sqlite without a path":   {config.Source{Type: config.TypeSQLite}, "set path"},
		"sqlite in memory":        {config.Source{Type: config.TypeSQLite, Path: ":memory:"}, "set path"},
		"sqlite to write":         {config.Source{Type: config.TypeSQLite, DSN: config.NewSecret("file:a.db?mode=rwc")}, "mode=ro"},
		"http_json without a url": {config.Source{Type: config.TypeHTTPJSON}, "set url"},
		"sqlite bad escape":       {config.Source{Type: config.TypeSQLite, DSN: config.NewSecret("file:a%ZZ.db")}, "data_source_name"},
	} {
		t.Run(name, func(t *testing.T) {
			test.config.Name = "s1"
			s, err := sources.Open(test.config, sources.Options{})
			if err == nil {
				_ = s.Close()
				t.Fatal("no error")
			}
			if got := err.Error(); !strings.Contains(got, test.want) || strings.Contains(got, "secret") || strings.Contains(got, "s1") {
				t.Errorf("error is %v, want %s, no password and no source", err, test.want)
			}
			t.Log(err)
		})
	}
}
