package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a Redis source means where little is written.
func TestRedisSource(t *testing.T) {
	type known struct {
		Instance, Database, Mode string
		Addresses                []string
	}
	for fields, want := range map[string]known{
		"":                                          {"127.0.0.1:6379", "0", "disable", nil},
		"host: /run/redis.sock":                     {"/run/redis.sock", "0", "disable", nil},
		"host: cache, port: 7000":                   {"cache:7000", "0", "disable", nil},
		"database: 5":                               {"127.0.0.1:6379", "5", "disable", nil},
		"tls_config: {server_name: cache}":          {"127.0.0.1:6379", "0", "verify-full", nil},
		"sslmode: require":                          {"127.0.0.1:6379", "0", "require", nil},
		"cluster: true, addresses: [a, b]":          {"a:6379", "0", "disable", []string{"a:6379", "b:6379"}},
		"sentinel_master: m, addresses: [a]":        {"a:26379", "0", "disable", []string{"a:26379"}},
		"data_source_name: redis://u:p@cache/3":     {"cache:6379", "", "disable", nil},
		"data_source_name: rediss://u:p@cache:7000": {"cache:7000", "", "disable", nil},
		"data_source_name: unix:///run/redis.sock":  {"/run/redis.sock", "", "disable", nil},
	} {
		text := "sources: [{name: s, type: redis, " + fields + "}]"
		c, err := load("redis.yml", []byte(text), Options{Getenv: testEnv})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		s := c.Sources[0]
		got := known{s.Instance, s.Database, s.TLS.Mode, s.Addresses}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}
