package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// ClickHousePort returns where a ClickHouse listens by default, with TLS or
// without.
func ClickHousePort(p SourceProtocol, encrypted bool) int {
	switch {
	case p == ProtocolHTTP && encrypted:
		return 8443
	case p == ProtocolHTTP:
		return 8123
	case encrypted:
		return 9440
	}
	return 9000
}

func (s *source) finishClickHouse(int) {
	s.exclusive("password", "password_file", "password_command")
	if s.has("data_source_name") {
		s.aloneWithDSN()
		s.exclusive("data_source_name", "protocol")
		s.finishTLS()
		if s.Instance == "" {
			s.Instance = clickHouseInstance(s.DSN.Reveal())
		}
	} else {
		s.finishFixedTLS("a ClickHouse")
		if s.Protocol == "" {
			s.Protocol = ProtocolNative
		}
		if s.User == "" {
			s.User = "default" // the account that every ClickHouse has at first
		}
		s.finishAddress(ClickHousePort(s.Protocol, s.TLS.Mode != "disable"))
	}
	switch {
	case s.Protocol != ProtocolHTTP:
		if s.Compression == "" && !s.has("data_source_name") {
			s.Compression = "lz4"
		}
	case s.has("compression"):
		s.at("compression").fail("is that of the native protocol", "delete it; over HTTP results are not compressed")
	case s.has("startup_sql"):
		s.at("startup_sql").fail("has no effect over HTTP, where each query is a session of its own", "delete it, or write protocol: native")
	}
}

// clickHouseInstance returns the first address in a connection string. It is
// lenient: the source has the last word on the string.
func clickHouseInstance(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return ""
	}
	address, _, _ := strings.Cut(u.Host, ",")
	if _, _, err := net.SplitHostPort(address); err == nil || address == "" {
		return address
	}
	secure := u.Scheme == "https" || u.Query().Get("secure") == "true"
	protocol := ProtocolNative
	if strings.HasPrefix(u.Scheme, "http") {
		protocol = ProtocolHTTP
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(ClickHousePort(protocol, secure)))
}
