package config

import "net"

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
	if err != nil {
		s.at("data_source_name").fail(err.Error(), "write postgres://user@host:5432/database or host=... user=... dbname=..., or the fields host, user and database")
		return
	}
	if s.Instance == "" {
		s.Instance = net.JoinHostPort(host, port)
	}
}
