package config

const defaultRedisPort = 6379

func (s *source) finishRedis(int) {
	s.finishTLS()
	s.exclusive("password", "password_file", "password_command")
	if s.has("data_source_name") {
		s.aloneWithDSN()
		return
	}
	s.finishAddress(defaultRedisPort)
}
