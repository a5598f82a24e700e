package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestClickHouse holds what is filled in around what is written.
func TestClickHouse(t *testing.T) {
	type filled struct {
		Host, User, Instance, Mode, Compression string
		Port                                    int
		Addresses                               []string
		Protocol                                SourceProtocol
	}
	for name, test := range map[string]struct {
		written string
		want    filled
	}{
		"nothing":   {"", filled{"127.0.0.1", "default", "127.0.0.1:9000", "disable", "lz4", 9000, nil, ProtocolNative}},
		"TLS":       {"host: a, tls_config: {server_name: b}", filled{"a", "default", "a:9440", "verify-full", "lz4", 9440, nil, ProtocolNative}},
		"HTTP":      {"protocol: http, user: mon", filled{"127.0.0.1", "mon", "127.0.0.1:8123", "disable", "", 8123, nil, ProtocolHTTP}},
		"HTTPS":     {"protocol: http, sslmode: require", filled{"127.0.0.1", "default", "127.0.0.1:8443", "require", "", 8443, nil, ProtocolHTTP}},
		"addresses": {"compression: none, addresses: [a, 'b:9001']", filled{"", "default", "a:9000", "disable", "none", 0, []string{"a:9000", "b:9001"}, ProtocolNative}},
		"DSN":       {"data_source_name: 'clickhouse://mon@a,b:9001/app'", filled{Instance: "a:9000"}},
		"HTTPS DSN": {"data_source_name: 'https://mon@a/app'", filled{Instance: "a:8443"}},
		"IPv6 DSN":  {"data_source_name: 'clickhouse://mon@[::1]?secure=true'", filled{Instance: "[::1]:9440"}},
		"bad DSN":   {"data_source_name: 'clickhouse://%zz'", filled{}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.yml")
			text := "sources: [{name: ch, type: clickhouse, " + test.written + "}]\n"
			if test.written == "" {
				text = "sources: [{name: ch, type: clickhouse}]\n"
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := Load(file, Options{Getenv: testEnv})
			if err != nil {
				t.Fatal(err)
			}
			s := c.Sources[0]
			got := filled{s.Host, s.User, s.Instance, s.TLS.Mode, s.Compression, s.Port, s.Addresses, s.Protocol}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
