package sources

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"sql2metrics/config"
)

// pgNeutral are the connection parameters that pgconn would otherwise take
// from PG* variables, from the home folder or from the operating system's
// user. A source is what its configuration says and nothing else.
var pgNeutral = [][2]string{
	{"host", "127.0.0.1"},
	{"port", "5432"},
	{"user", noUser},
	{"password", ""},
	{"dbname", ""},
	{"passfile", ""},
	{"servicefile", ""},
	{"application_name", "sql2metrics"},
	{"client_encoding", "UTF8"},
	{"connect_timeout", "0"},
	{"sslmode", "prefer"},
	{"sslkey", ""},
	{"sslcert", ""},
	{"sslcertmode", "allow"},
	{"sslsni", "1"},
	{"sslrootcert", ""},
	{"sslpassword", ""},
	{"sslnegotiation", ""},
	{"target_session_attrs", "any"},
	{"timezone", ""},
	{"options", ""},
	{"min_protocol_version", "3.0"},
	{"max_protocol_version", "3.0"},
	{"channel_binding", "prefer"},
	{"require_auth", ""},
}

// noUser stands for a user that nobody named.
const noUser = "?"

// pgConfig makes the driver's configuration of s. It reads the CA and
// certificate files, so it is called for each connection, and given the
// connection's password.
func pgConfig(s config.Source, password config.Secret) (*pgconn.Config, error) {
	if os.Getenv("PGSERVICE") != "" {
		return nil, errors.New("the environment variable PGSERVICE is set and would change where sources connect to; unset it")
	}
	dsn := pgFields(s)
	if s.DSN.IsSet() {
		dsn = pgComplete(s.DSN.Reveal())
	}
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, pgConfigError(s, err)
	}
	if cfg.User == noUser {
		return nil, errors.New("no user to log in as; set user")
	}
	// An empty parameter only kept the environment's value out.
	for name, value := range cfg.RuntimeParams {
		if value == "" {
			delete(cfg.RuntimeParams, name)
		}
	}
	if s.Database != "" {
		cfg.Database = s.Database // of many, where a data_source_name names the first
	}
	if s.TLS.ServerName != "" {
		setServerName(cfg, s.TLS.ServerName)
	}
	if password.IsSet() {
		cfg.Password = password.Reveal()
	}
	return cfg, nil
}

// pgFields spells the structured fields of s as a connection string. The
// password is not among them: no parser needs to see it.
func pgFields(s config.Source) string {
	given := map[string]string{
		"host":        s.Host,
		"user":        s.User,
		"dbname":      s.Database,
		"sslmode":     s.TLS.Mode,
		"sslrootcert": s.TLS.CAFile,
		"sslcert":     s.TLS.CertFile,
		"sslkey":      s.TLS.KeyFile,
	}
	if s.Port != 0 {
		given["port"] = strconv.Itoa(s.Port)
	}
	var b strings.Builder
	for _, p := range pgNeutral {
		value := given[p[0]]
		if value == "" {
			value = p[1]
		}
		writeKeyword(&b, p[0], value)
	}
	return b.String()
}

func writeKeyword(b *strings.Builder, name, value string) {
	b.WriteString(name + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "' ")
}

// pgComplete adds to a data_source_name the neutral parameters it leaves out.
func pgComplete(dsn string) string {
	var b strings.Builder
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		// Of a parameter that stands twice, the last counts.
		for _, p := range pgNeutral {
			writeKeyword(&b, p[0], p[1])
		}
		return b.String() + dsn
	}
	given, separator := urlParameters(dsn)
	b.WriteString(dsn)
	for _, p := range pgNeutral {
		if !given[p[0]] {
			b.WriteString(separator + p[0] + "=" + url.QueryEscape(p[1]))
			separator = "&"
		}
	}
	return b.String()
}

// urlParameters tells which parameters a connection URL gives, and what
// separates one more from them. It looks for the parts where pgconn does and
// checks nothing: what is malformed is pgconn's to refuse.
func urlParameters(dsn string) (given map[string]bool, separator string) {
	given = make(map[string]bool)
	_, rest, _ := strings.Cut(dsn, "://")
	if at := strings.IndexAny(rest, "@/"); at >= 0 && rest[at] == '@' {
		user, password, _ := strings.Cut(rest[:at], ":")
		given["user"], given["password"] = user != "", password != ""
		rest = rest[at+1:]
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	hosts, database, _ := strings.Cut(rest, "/")
	given["host"] = hosts != "" && hosts[0] != ':'
	given["port"] = strings.Contains(hosts[strings.LastIndex(hosts, "]")+1:], ":")
	given["dbname"] = database != ""
	if !hasQuery {
		return given, "?"
	}
	for parameter := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(parameter, "=")
		switch name {
		case "database":
			name = "dbname"
		case "ssl":
			name = "sslmode"
		}
		given[name] = true
	}
	return given, "&"
}

func setServerName(cfg *pgconn.Config, name string) {
	set := func(t *tls.Config) {
		if t != nil {
			t.ServerName = name
		}
	}
	set(cfg.TLSConfig)
	for _, f := range cfg.Fallbacks {
		set(f.TLSConfig)
	}
}

// pgConfigError explains why s makes no configuration. pgconn quotes a
// data_source_name, and cannot always tell where the password is in one that
// it did not understand, so those words are kept back.
func pgConfigError(s config.Source, err error) error {
	cause := errors.Unwrap(err)
	var path *fs.PathError
	switch {
	case errors.As(err, &path):
		return &fileError{fmt.Errorf("read TLS file: %w", path)}
	case !s.DSN.IsSet():
		return fmt.Errorf("connection settings: %w", cmpErr(cause, err))
	case cause != nil && cause.Error() == "sslmode is invalid":
		return errors.New("data_source_name: sslmode is invalid; set it to disable, allow, prefer, require, verify-ca or verify-full")
	case cause != nil && strings.Contains(err.Error(), "failed to configure TLS"):
		return fmt.Errorf("data_source_name: %w", cause)
	}
	return errors.New("data_source_name cannot be read: it is either postgres://user@host:5432/database, with special characters percent-encoded, or words like host=… user=… dbname=…; a password is best given as password_file")
}

func cmpErr(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// pgConnectError says where to a connection failed and what to do about it.
func pgConnectError(cfg *pgconn.Config, err error) error {
	_, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	attempts := pgAttempts(err)
	failed := &pgDialError{where: address + " as user " + cfg.User, hint: pgHint(attempts[0]), attempts: attempts, err: err}
	if pgLoginRefused(attempts[0]) {
		return &loginError{failed}
	}
	return failed
}

// pgLoginRefused tells whether the server was asked to let us in and did not.
// A pg_hba.conf without a line for us refuses before it asks for a password,
// so no account is locked for that.
func pgLoginRefused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pgWrongPassword(pg) || pg.Code == "28000" && !strings.Contains(pg.Message, "pg_hba.conf"))
}

// pgWrongPassword knows the words of pgbouncer too, whose code is that of any
// violation of the protocol.
func pgWrongPassword(err *pgconn.PgError) bool {
	return err.Code == "28P01" || err.Code == "08P01" && strings.Contains(err.Message, "authentication failed")
}

// pgAttempts returns the errors of the attempts of which err tells, the most
// telling first: what the server said of the login, and last that it refused
// TLS, which under sslmode prefer is no failure.
func pgAttempts(err error) []error {
	attempts := []error{err}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		attempts = slices.Clone(joined.Unwrap())
	} else if inner := errors.Unwrap(err); inner != nil {
		attempts[0] = inner
	}
	rank := func(err error) int {
		switch {
		case errors.As(err, new(*pgconn.PgError)):
			return 0
		case strings.Contains(err.Error(), refusedTLS):
			return 2
		}
		return 1
	}
	slices.SortStableFunc(attempts, func(a, b error) int { return rank(a) - rank(b) })
	return attempts
}

// refusedTLS is what pgconn says of a server without TLS.
const refusedTLS = "server refused TLS connection"

// pgDialError prints one line for what pgconn reports as a list of attempts.
type pgDialError struct {
	where, hint string
	attempts    []error
	err         error
}

func (e *pgDialError) Error() string {
	var causes []string
	for _, attempt := range e.attempts {
		cause := strings.Join(strings.Fields(attempt.Error()), " ")
		if !slices.Contains(causes, cause) {
			causes = append(causes, cause)
		}
	}
	s := e.where + ": " + strings.Join(causes, ", ")
	if e.hint != "" {
		s += "; " + e.hint
	}
	return s
}

func (e *pgDialError) Unwrap() error { return e.err }

func pgHint(err error) string {
	var (
		pg        *pgconn.PgError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		dns       *net.DNSError
	)
	switch {
	case errors.As(err, &pg) && pgWrongPassword(pg):
		return "check user and password, or password_file"
	case errors.As(err, &pg) && pg.Code == "28000":
		return "check user and the server's pg_hba.conf"
	case errors.As(err, &pg) && pg.Code == "3D000":
		return "check database"
	case errors.As(err, &authority):
		return "check tls.ca_file: it does not hold the authority that signed the server's certificate"
	case errors.As(err, &hostname):
		return "check host, or set tls.server_name to a name in the server's certificate"
	case errors.As(err, &dns):
		return "check host"
	case strings.Contains(err.Error(), "connection refused"):
		return "is the server running, and listening there?"
	case strings.Contains(err.Error(), refusedTLS):
		return "the server has TLS off: set sslmode to prefer or disable, or turn it on"
	}
	return ""
}
