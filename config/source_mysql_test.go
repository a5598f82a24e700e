package config

import "testing"

// TestMySQLAddress: the default instance of a source with a connection string.
func TestMySQLAddress(t *testing.T) {
	for dsn, want := range map[string]string{
		"u:p@tcp(db.example.com:3307)/app?tls=true": "db.example.com:3307",
		"u@tcp(db)/":                       "db:3306",
		"u@tcp([::1]:3307)/app":            "[::1]:3307",
		"u@tcp([::1])/app":                 "[::1]:3306",
		"u@tcp/app":                        "127.0.0.1:3306",
		"u@/app":                           "127.0.0.1:3306",
		"/":                                "127.0.0.1:3306",
		"u:a@b/c(d@tcp(db:1)/app":          "db:1",
		"u@unix(/run/mysqld/mysqld.sock)/": "/run/mysqld/mysqld.sock",
		"u@unix(/run/mysqld/mysqld.sock)/app?timeout=1s": "/run/mysqld/mysqld.sock",
	} {
		t.Run(dsn, func(t *testing.T) {
			if got, err := mysqlAddress(dsn); err != nil || got != want {
				t.Errorf("got %s, %v, want %s", got, err, want)
			}
		})
	}
	for _, dsn := range []string{"", "secret", "mysql://u:p@db:3306/app", "u@db:3306/app", "u@db/app", "u@unix/app"} {
		t.Run("not "+dsn, func(t *testing.T) {
			if got, err := mysqlAddress(dsn); err == nil {
				t.Errorf("got %s, want an error", got)
			}
		})
	}
}
