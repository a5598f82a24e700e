package config

import (
	"path/filepath"
	"strings"
)

func (s *source) finishSQLite(int) {
	s.MaxConnectionLifetime = 0
	if s.has("data_source_name") {
		s.exclusive("data_source_name", "path")
		if s.Instance == "" {
			s.Instance, _, _ = strings.Cut(strings.TrimPrefix(s.DSN.Reveal(), "file:"), "?")
		}
		return
	}
	if !s.require("path", "write the name of the database file") || s.file == "" {
		return
	}
	if s.file == ":memory:" {
		s.at("path").fail("a database in memory belongs to the process that made it", "write the name of a database file")
	}
	s.Path = s.file
	if !filepath.IsAbs(s.Path) {
		s.Path = filepath.Join(s.in.dir, s.Path)
	}
	// The instance is the name as it is written, so that it does not change
	// with the folder the agent is started in.
	if s.Instance == "" {
		s.Instance = s.file
	}
}
