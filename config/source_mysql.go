package config

const defaultMySQLPort = 3306

func (s *source) finishMySQL(int) {
	s.finishTLS()
	s.exclusive("password", "password_file", "password_command")
	if s.has("data_source_name") {
		s.aloneWithDSN()
		return
	}
	s.finishAddress(defaultMySQLPort)
}
