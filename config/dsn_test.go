package config

import (
	"net"
	"testing"
)

// TestPostgresAddress: the default instance of a source with a connection
// string.
func TestPostgresAddress(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u:p@db.example.com:6432/app?sslmode=disable": "db.example.com:6432",
		"postgresql://db/app": "db:5432",
		"postgres://":         "localhost:5432",
		"postgres:///app?host=/var/run/postgresql":       "/var/run/postgresql:5432",
		"postgres://u:p@[::1]:6000/app":                  "[::1]:6000",
		"postgres://[::1]/app":                           "[::1]:5432",
		"postgres://u:a%40b@db/app?options=-c%20a=b@c":   "db:5432",
		"postgres://a:1,b:2/app":                         "a:1",
		"postgres://%2Ftmp/app":                          "/tmp:5432",
		"postgres://db?port=7":                           "db:7",
		"host=db port=6432 user=u password=x":            "db:6432",
		"user = 'a b' password='it\\'s = x' host = 'db'": "db:5432",
		"user=u":                    "localhost:5432",
		"host=a,b port=1,2":         "a:1",
		"host=db password=http://x": "db:5432",
	} {
		t.Run(dsn, func(t *testing.T) {
			host, port, err := postgresAddress(dsn)
			if err != nil {
				t.Fatal(err)
			}
			if got := net.JoinHostPort(host, port); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	for _, dsn := range []string{"mysql://u@db/app", "postgres://u:a@b@db/app", "postgres://u:a@b/c@db/app", "postgres://u:a/b@db/app", "secret", "just words", "=x", "'a'=b"} {
		t.Run("not "+dsn, func(t *testing.T) {
			if host, port, err := postgresAddress(dsn); err == nil {
				t.Errorf("got %s and %s, want an error", host, port)
			}
		})
	}
}
