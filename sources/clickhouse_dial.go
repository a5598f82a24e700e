package sources

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sql2metrics/config"
)

// chResolve returns s with all that its data_source_name says, and the defaults,
// in the fields of their own. Every address has a port.
func chResolve(s config.Source) (config.Source, error) {
	switch {
	case s.DSN.IsSet():
		var err error
		if s, err = chFields(s); err != nil {
			return s, err
		}
	case len(s.Addresses) == 0:
		s.Addresses = []string{net.JoinHostPort(s.Host, strconv.Itoa(s.Port))}
	}
	if s.Protocol == "" {
		s.Protocol = config.ProtocolNative
	}
	if s.User == "" {
		s.User = "default" // ClickHouse's own word for it
	}
	if s.Protocol == config.ProtocolHTTP && len(s.StartupSQL) > 0 {
		return s, errors.New("startup_sql has no effect over HTTP, where each query is a session of its own; delete it or set protocol to native")
	}
	port := strconv.Itoa(config.ClickHousePort(s.Protocol, s.TLS.Mode != "" && s.TLS.Mode != "disable"))
	s.Addresses = slices.Clone(s.Addresses)
	for i, address := range s.Addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			s.Addresses[i] = net.JoinHostPort(strings.Trim(address, "[]"), port)
		}
	}
	return s, nil
}

// chFields returns s with the parts of its data_source_name as fields. The error
// quotes nothing of it but names of parameters.
func chFields(s config.Source) (config.Source, error) {
	u, err := url.Parse(s.DSN.Reveal())
	if err != nil || u.Host == "" {
		return s, errors.New("data_source_name cannot be read: it is clickhouse://user@host:9000/database, several hosts with commas between them, special characters percent-encoded; a password is best given as password_file")
	}
	switch u.Scheme {
	case "clickhouse", "tcp", "native":
		s.Protocol = config.ProtocolNative
	case "http", "https":
		s.Protocol = config.ProtocolHTTP
	default:
		return s, errors.New("data_source_name has another scheme than clickhouse, tcp, http and https; write clickhouse://user@host:9000/database")
	}
	secure, verify := u.Scheme == "https", true
	s.Addresses = strings.Split(u.Host, ",")
	s.Database = strings.TrimPrefix(u.Path, "/")
	s.User = u.User.Username()
	own, given := u.User.Password()
	for name, values := range u.Query() {
		value := values[len(values)-1]
		var err error
		switch name {
		case "username":
			s.User = value
		case "password":
			own, given = value, true
		case "database":
			s.Database = value
		case "secure":
			secure, err = strconv.ParseBool(value)
		case "skip_verify":
			var skip bool
			skip, err = strconv.ParseBool(value)
			verify = !skip
		case "compress":
			s.Compression, err = chCompression(value)
		default:
			return s, fmt.Errorf("data_source_name has the parameter %q, which means nothing here; delete it: limits and time-outs are fields of the source and its queries", name)
		}
		if err != nil {
			return s, fmt.Errorf("data_source_name has a parameter %q whose value means nothing; write true or false", name)
		}
	}
	if given && !s.Password.IsSet() {
		s.Password = config.NewSecret(own)
	}
	s.TLS.Mode = "disable"
	if secure {
		s.TLS.Mode = "verify-full"
		if !verify {
			s.TLS.Mode = "require"
		}
	}
	return s, nil
}

func chCompression(value string) (string, error) {
	switch value {
	case "none", "lz4", "zstd":
		return value, nil
	}
	on, err := strconv.ParseBool(value)
	if on {
		return "lz4", err
	}
	return "none", err
}

// dialClickHouse connects to the first address at which a server answers.
func dialClickHouse(ctx context.Context, s config.Source, all *sockets) (c chConn, err error) {
	secret, err := password(ctx, s)
	if err != nil {
		return nil, err
	}
	s.Password = secret
	err = eachAddress(ctx, s.Addresses, 0, func(ctx context.Context, address string) (err error) {
		c, err = chDialOne(ctx, s, address, all)
		return err
	})
	return c, err
}

func chDialOne(ctx context.Context, s config.Source, address string, all *sockets) (_ chConn, err error) {
	host, _, _ := net.SplitHostPort(address)
	encrypt, err := tlsConfig(s.TLS, host)
	if err != nil {
		return nil, err
	}
	var c chConn
	if s.Protocol == config.ProtocolHTTP {
		c, err = newCHHTTP(ctx, address, encrypt, s, all)
	} else {
		c, err = chDialNative(ctx, address, encrypt, s, all)
	}
	if err != nil {
		return nil, chExplain(err, address, s)
	}
	return c, nil
}

func chDialNative(ctx context.Context, address string, encrypt *tls.Config, s config.Source, all *sockets) (chConn, error) {
	conn, err := chSocket(ctx, address, encrypt, all)
	if err != nil {
		return nil, err
	}
	c, err := newCHNative(ctx, conn, s)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// chSocket opens a socket, encrypted unless encrypt is nil.
func chSocket(ctx context.Context, address string, encrypt *tls.Config, all *sockets) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn = all.track(conn)
	if encrypt == nil {
		return conn, nil
	}
	encrypted := tls.Client(conn, encrypt)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return encrypted, nil
}

// chExplain says where to a connection failed and what to do about it.
func chExplain(err error, address string, s config.Source) error {
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		err = errNoAnswer
	}
	hint := chHint(err, s)
	if hint != "" {
		hint = "; " + hint
	}
	explained := fmt.Errorf("%s as user %s: %w%s", address, s.User, err, hint)
	switch chCode(err) {
	case chUnknownUser, chWrongPassword, chNeedsPassword, chAuthentication:
		return &loginError{explained}
	}
	return explained
}

func chHint(err error, s config.Source) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		dns       *net.DNSError
		record    tls.RecordHeaderError
	)
	switch code := chCode(err); {
	case code == chUnknownUser || code == chWrongPassword || code == chNeedsPassword || code == chAuthentication:
		return "check user and password, or password_file"
	case code == chUnknownDatabase:
		return "check database"
	case errors.As(err, &authority):
		return "check tls_config.ca_file: it does not hold the authority that signed the server's certificate"
	case errors.As(err, &hostname):
		return "check host, or set tls_config.server_name to a name in the server's certificate"
	case errors.As(err, &dns):
		return "check host"
	case errors.As(err, &record):
		return "the port has no TLS: native with TLS is 9440, HTTP with TLS 8443"
	case errors.Is(err, errNoAnswer), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "is the port right? Native is 9000, with TLS 9440; HTTP is 8123, with TLS 8443"
	case strings.Contains(err.Error(), "connection refused"):
		return "is the server running, and listening there?"
	}
	return ""
}
