package sources

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"sql2metrics/config"
)

// mysqlParams are variables of the session unless a data_source_name gives them
// another value: for how many seconds a query waits for a lock that somebody
// else holds on a table or a row.
var mysqlParams = map[string]string{
	"lock_wait_timeout":        "2",
	"innodb_lock_wait_timeout": "2",
}

// programName is the attribute of a connection by which a DBA finds out whose
// it is.
const programName = "program_name"

// mysqlConfig makes the driver's configuration of s. It reads the CA and
// certificate files, so it is called for each connection, and given the
// connection's password.
func mysqlConfig(s config.Source, password config.Secret) (*mysql.Config, error) {
	cfg, err := mysqlFields(s)
	if s.DSN.IsSet() {
		cfg, err = mysqlDSN(s.DSN.Reveal())
	}
	if err != nil {
		return nil, err
	}
	if cfg.User == "" {
		return nil, errors.New("no user to log in as; set user")
	}
	if s.Database != "" { // beside a data_source_name it is one of many
		cfg.DBName = s.Database
	}
	if password.IsSet() {
		cfg.Passwd = password.Reveal()
	}
	cfg.Logger = &mysql.NopLogger{} // what it would say is in the error too
	if !strings.Contains(cfg.ConnectionAttributes, programName+":") {
		cfg.ConnectionAttributes = strings.TrimPrefix(cfg.ConnectionAttributes+","+programName+":sql2metrics", ",")
	}
	params := maps.Clone(mysqlParams)
	for name, value := range cfg.Params {
		params[strings.ToLower(name)] = value
	}
	params["autocommit"] = "1" // see [mysqlServer.run]
	cfg.Params = params
	return cfg, nil
}

// mysqlFields makes the configuration of the structured fields of s.
func mysqlFields(s config.Source) (*mysql.Config, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.DBName = s.User, s.Database
	if strings.HasPrefix(s.Host, "/") {
		cfg.Net, cfg.Addr = "unix", s.Host
		return cfg, nil
	}
	cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	var err error
	cfg.TLS, err = tlsConfig(s.TLS, s.Host)
	cfg.AllowFallbackToPlaintext = s.TLS.Mode == "prefer"
	return cfg, err
}

// mysqlDSN reads a connection string in the driver's words. What would undo a
// promise is refused.
func mysqlDSN(dsn string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	switch {
	case err != nil && strings.Contains(err.Error(), "unknown config name"):
		return nil, errors.New("data_source_name: tls is none of true, skip-verify, preferred and false; for a CA or a certificate of ours write host, user, database and tls_config instead")
	case err != nil:
		// The driver quotes what it did not understand, which may be the password.
		return nil, errors.New("data_source_name cannot be read: it is user@tcp(host:3306)/database or user@unix(/path/to/socket)/database, and ends with a slash where it names no database; a password is best given as password_file")
	case cfg.MultiStatements:
		return nil, errors.New("data_source_name: multiStatements would let a query run several statements; delete it")
	case cfg.AllowAllFiles:
		return nil, errors.New("data_source_name: allowAllFiles would let the server read files of the agent; delete it")
	}
	for name, value := range cfg.Params {
		if err := checkMySQLVariable(name, value); err != nil {
			return nil, err
		}
	}
	if cfg.Collation != "" && !mysqlVariable.MatchString(cfg.Collation) {
		return nil, errors.New("data_source_name: collation is not the name of one")
	}
	cfg.ParseTime = false // times are read in the session's own zone
	return cfg, nil
}

// What a data_source_name may set is the session's: the driver puts name and
// value into one SET as they are, so neither may hold a second assignment.
var (
	mysqlVariable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	mysqlLiteral  = regexp.MustCompile(`^([+-]?[A-Za-z0-9_.]+|'[^'\\]*'|"[^"\\]*")$`)
)

func checkMySQLVariable(name, value string) error {
	switch {
	case !mysqlVariable.MatchString(name):
		return errors.New("data_source_name: the name of a parameter is not that of a variable of the session; write name=value")
	case strings.EqualFold(name, "autocommit"):
		return nil // without effect
	case !mysqlLiteral.MatchString(value):
		return fmt.Errorf("data_source_name: the value of %s is neither a word, a number nor a text in quotes; set it in startup_sql instead", name)
	}
	if err := startupRules[config.TypeMySQL].check("SET " + name); err != nil {
		return fmt.Errorf("data_source_name: %w", err)
	}
	return nil
}

// Codes with which a server turns a client away.
const (
	tooManyConnections = 1040
	databaseDenied     = 1044
	accessDenied       = 1045
	unknownDatabase    = 1049
	hostBlocked        = 1129
	hostDenied         = 1130
	noPasswordGiven    = 1698
	passwordExpired    = 1862
	accountLocked      = 3118
	insecureTransport  = 3159
	accountBlocked     = 4151 // MariaDB
)

// mysqlConnectError says where to a connection failed and what to do about it.
func mysqlConnectError(cfg *mysql.Config, err error) error {
	said := fmt.Errorf("%s as user %s: %w", cfg.Addr, cfg.User, err)
	if hint := mysqlHint(err); hint != "" {
		said = fmt.Errorf("%w; %s", said, hint)
	}
	switch mysqlCode(err) {
	case accessDenied, noPasswordGiven, passwordExpired, accountLocked, accountBlocked:
		return &loginError{said}
	}
	return said
}

func mysqlHint(err error) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		dns       *net.DNSError
	)
	switch mysqlCode(err) {
	case accessDenied, noPasswordGiven:
		return "check user and password, or password_file, and whether the account asks for TLS"
	case passwordExpired, accountLocked, accountBlocked:
		return "have the account unlocked"
	case databaseDenied, unknownDatabase:
		return "check database, and the account's grants"
	case tooManyConnections:
		return "the server's max_connections are taken"
	case hostBlocked, hostDenied:
		return "check from which hosts the account may log in"
	case insecureTransport:
		return "the server wants TLS: set sslmode to prefer"
	}
	switch {
	case errors.Is(err, mysql.ErrNoTLS):
		return "the server has TLS off: set sslmode to prefer or disable, or turn it on"
	case errors.As(err, &authority):
		return "check tls_config.ca_file: it does not hold the authority that signed the server's certificate"
	case errors.As(err, &hostname):
		return "check host, or set tls_config.server_name to a name in the server's certificate"
	case errors.As(err, &dns):
		return "check host"
	case strings.Contains(err.Error(), "connection refused"):
		return "is the server running, and listening there?"
	}
	return ""
}
