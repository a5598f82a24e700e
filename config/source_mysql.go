package config

import (
	"errors"
	"net"
	"strconv"
	"strings"
)

const defaultMySQLPort = 3306

func (s *source) finishMySQL(int) {
	s.finishTLS()
	s.exclusive("password", "password_file", "password_command")
	if !s.has("data_source_name") {
		s.require("user", "name the account to log in as")
		if strings.HasPrefix(s.Host, "/") {
			s.finishMySQLSocket()
		}
		s.finishAddress(defaultMySQLPort)
		return
	}
	s.aloneWithDSN()
	if !s.DSN.IsSet() {
		return
	}
	address, err := mysqlAddress(s.DSN.Reveal())
	if err != nil {
		s.at("data_source_name").fail(err.Error(), "write user@tcp(host:3306)/database or user@unix(/path/to/socket)/database, or the fields host, user and database")
		return
	}
	if s.Instance == "" {
		s.Instance = address
	}
}

// finishMySQLSocket checks what stands beside a host that is the path of a
// socket. The path alone is the instance.
func (s *source) finishMySQLSocket() {
	if s.has("port") {
		s.at("port").fail("stands beside the path of a socket", "delete it, or write a name or an address as host")
	}
	if s.Instance == "" {
		s.Instance = s.Host
	}
}

var errNotMySQL = errors.New("is not a connection string of MySQL")

// mysqlAddress returns host:port, or the path of the socket, of a connection
// string in the words of Go's driver. It is lenient, as the driver has the last
// word on the string, and its error quotes nothing of it.
func mysqlAddress(dsn string) (string, error) {
	slash := strings.LastIndexByte(dsn, '/')
	if slash < 0 {
		return "", errNotMySQL
	}
	server := dsn[strings.LastIndexByte(dsn[:slash], '@')+1 : slash]
	network, address, _ := strings.Cut(server, "(")
	address = strings.TrimSuffix(address, ")")
	switch {
	case network == "unix" && address != "":
		return address, nil
	case network != "" && network != "tcp":
		return "", errNotMySQL
	case address == "":
		return net.JoinHostPort(defaultHost, strconv.Itoa(defaultMySQLPort)), nil
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(defaultMySQLPort))
	}
	return address, nil
}
