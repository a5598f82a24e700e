package config

import (
	"errors"
	"net"
)

const defaultPostgresPort = 5432

func (s *source) finishPostgres(int) {
	s.finishTLS()
	s.exclusive("password", "password_file", "password_command")
	if !s.has("data_source_name") {
		s.require("user", "name the role to log in as")
		s.finishAddress(defaultPostgresPort)
		return
	}
	s.aloneWithDSN()
	if !s.DSN.IsSet() {
		return
	}
	host, port, err := postgresAddress(s.DSN.Reveal())
	if errors.Is(err, errTwoAts) {
		// Drivers differ in where they cut: part of a password would be shown as the host.
		s.at("data_source_name").fail(err.Error(), "percent-encode what user and password have of @, /, ? and #: @ is %40")
		return
	}
	if err != nil {
		s.at("data_source_name").fail(err.Error(), "write postgres://user@host:5432/database or host=... user=... dbname=..., or the fields host, user and database")
		return
	}
	if s.Instance == "" {
		s.Instance = net.JoinHostPort(host, port)
	}
}
