package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultRedisPort    = 6379
	defaultSentinelPort = 26379
)

// redisFields are those of a server but for the statements that it has none of.
func redisFields() []string {
	fields := slices.DeleteFunc(slices.Clone(serverFields), func(f string) bool { return f == "startup_sql" || f == "databases" })
	return append(fields, "addresses", "cluster", "sentinel_master", "sentinel_user", "sentinel_password", "sentinel_password_file")
}

func (s *source) finishRedis(int) {
	s.finishFixedTLS("a Redis")
	s.exclusive("password", "password_file", "password_command")
	s.exclusive("sentinel_password", "sentinel_password_file")
	s.exclusive("cluster", "sentinel_master")
	for _, f := range []string{"sentinel_user", "sentinel_password", "sentinel_password_file"} {
		if s.has(f) && !s.has("sentinel_master") {
			s.at(f).fail("stands without sentinel_master", "name the master that the Sentinels watch, or delete it")
		}
	}
	if s.has("data_source_name") {
		s.aloneWithDSN()
		for _, f := range []string{"cluster", "sentinel_master"} {
			if s.has(f) {
				s.at(f).fail("stands beside data_source_name, which names one server", "write addresses in its place")
			}
		}
		if s.Instance == "" {
			s.Instance = redisInstance(s.DSN.Reveal())
		}
		return
	}
	if s.Instance == "" && strings.HasPrefix(s.Host, "/") {
		s.Instance = s.Host
	}
	port := defaultRedisPort
	if s.SentinelMaster != "" {
		port = defaultSentinelPort
	}
	s.finishAddress(port)
	if s.Database == "" {
		s.Database = "0"
	}
	db, err := strconv.Atoi(s.Database)
	switch {
	case err != nil || db < 0:
		s.at("database").fail("is no number", "write 0, or the number of the database")
	case db > 0 && s.Cluster:
		s.at("database").fail("is not 0, and a cluster has no other", "delete it")
	}
}

// redisInstance returns the address in a connection string, without the rest.
func redisInstance(dsn string) string {
	u, err := url.Parse(dsn)
	switch {
	case err != nil:
		return ""
	case u.Host == "":
		return u.Path
	case u.Port() == "":
		return u.Host + ":" + strconv.Itoa(defaultRedisPort)
	}
	return u.Host
}
