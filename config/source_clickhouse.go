package config

const defaultClickHousePort = 9000

func (s *source) finishClickHouse(int) {
	s.finishTLS()
	s.exclusive("password", "password_file", "password_command")
	if s.has("data_source_name") {
		s.aloneWithDSN()
		return
	}
	s.finishAddress(defaultClickHousePort)
}
