package sources

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"sql2metrics/config"
)

// redisSource returns s with its data_source_name read into the structured
// fields, if it has one. The error shows nothing of it.
func redisSource(s config.Source) (config.Source, error) {
	if s.DSN.IsSet() {
		o, err := redis.ParseURL(s.DSN.Reveal())
		if err != nil {
			return s, errors.New("data_source_name cannot be read: it is redis://user@host:6379/0, rediss:// with TLS, or unix:///path, with special characters percent-encoded; a password is best given as password_file")
		}
		s.User, s.Database = o.Username, strconv.Itoa(o.DB)
		if !s.Password.IsSet() && s.PasswordFile == "" && len(s.PasswordCommand) == 0 {
			s.Password = config.NewSecret(o.Password)
		}
		s.Addresses = []string{o.Addr}
		if o.TLSConfig != nil {
			s.TLS.Mode = "verify-full"
			if o.TLSConfig.InsecureSkipVerify {
				s.TLS.Mode = "require"
			}
		}
	}
	if db, err := strconv.Atoi(s.Database); s.Database != "" && (err != nil || db < 0) {
		return s, fmt.Errorf("database %q is no number; write 0, or that of the database", s.Database)
	}
	if _, err := tlsConfig(redisTLS(s.TLS), ""); err != nil && !errors.As(err, new(*fileError)) {
		return s, err
	}
	return s, nil
}

// isDenied tells whether the account lacks the right to a command.
func isDenied(err error) bool {
	var said redisError
	return errors.As(err, &said) && strings.HasPrefix(string(said), "NOPERM ")
}

// isBusy tells whether a server answered that a script keeps it from answering.
func isBusy(err error) bool {
	var said redisError
	return errors.As(err, &said) && strings.HasPrefix(string(said), "BUSY ")
}

// redisConnectError says where to a connection failed and what to do about it.
func redisConnectError(ctx context.Context, address string, login redisLogin, err error) error {
	if ctx.Err() != nil && !errors.As(err, new(redisError)) {
		err = errNoAnswer
	}
	where := address
	if login.user != "" {
		where += " as user " + login.user
	}
	hint := ""
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		dns       *net.DNSError
		record    tls.RecordHeaderError
	)
	switch {
	case isLogin(err):
		return &loginError{fmt.Errorf("%s: %w; check user and password, or password_file", where, err)}
	case errors.As(err, &authority):
		hint = "; check tls_config.ca_file: it does not hold the authority that signed the server's certificate"
	case errors.As(err, &hostname):
		hint = "; check host, or set tls_config.server_name to a name in the server's certificate"
	case errors.As(err, &dns):
		hint = "; check host"
	case errors.As(err, &record):
		hint = "; the port has no TLS"
	case errors.Is(err, errNoAnswer), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		hint = "; is the port right, and TLS set as it is there?"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "; is the server running, and listening there?"
	}
	return fmt.Errorf("%s: %w%s", where, err, hint)
}
