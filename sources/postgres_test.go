package sources_test

import (
	"fmt"
	"net/url"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
)

// pgSource is the structured configuration of pg.
func pgSource(pg *servers.PG) config.Source {
	return config.Source{
		Name:           "pg",
		Type:           config.TypePostgres,
		Host:           pg.Host,
		Port:           pg.Port,
		User:           pg.User,
		Password:       config.NewSecret(pg.Password),
		Database:       "postgres",
		MaxConnections: 2,
		Timeout:        10 * time.Second,
	}
}

// pgDSN is the same in the form of words, without the password.
func pgDSN(pg *servers.PG) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", pg.Host, pg.Port, pg.User)
}

// pgURL is the same as a URL with the password in it.
func pgURL(pg *servers.PG, parameters string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(pg.User, pg.Password), Host: pg.Addr(), Path: "/postgres", RawQuery: parameters}
	return u.String()
}
