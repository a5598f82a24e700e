package sources

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"sql2metrics/config"
)

// startupRule says what the statements of startup_sql may be in one kind of
// SQL: they are there to set up a session and for nothing else. They run before
// anything that a source itself needs of its session, and cannot undo it.
type startupRule struct {
	begin  []string // words that one of these begins with
	refuse []string // words that none may hold, not even in a text
}

var startupRules = map[config.SourceType]startupRule{
	config.TypePostgres: {begin: []string{"SET", "SELECT SET_CONFIG"}},
	// Some words change the server or the account, for all and for good; others
	// leave a transaction or a lock to the session, and hold the application up.
	config.TypeMySQL:      {begin: []string{"SET", "USE"}, refuse: []string{"GLOBAL", "PERSIST", "PERSIST_ONLY", "PASSWORD", "DEFAULT", "STATEMENT", "AUTOCOMMIT", "GET_LOCK"}},
	config.TypeClickHouse: {begin: []string{"SET", "USE"}, refuse: []string{"READONLY", "DEFAULT", "PROFILE"}},
	// Which of them may run is for SQLite to ask: see [sqliteConn.authorize].
	config.TypeSQLite: {begin: []string{"PRAGMA"}},
}

// checkStartup tells whether all of startup_sql may run on each new connection
// of s.
func checkStartup(s config.Source) error {
	for i, statement := range s.StartupSQL {
		rule, ok := startupRules[s.Type]
		if !ok {
			return errors.New("startup_sql has no meaning here; delete it")
		}
		statement = dialects[s.Type].skipToStatement(statement)
		err := rule.check(statement)
		if err == nil && s.Databases != nil && firstWord(statement) == "USE" {
			err = errors.New("USE would run each query of databases in the same one; delete it")
		}
		if err != nil {
			return startupError(i, err)
		}
	}
	return nil
}

func (r startupRule) check(statement string) error {
	words := strings.FieldsFunc(strings.ToUpper(statement), func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '_'
	})
	beginsWith := func(verb string) bool {
		parts := strings.Fields(verb)
		return len(words) >= len(parts) && slices.Equal(words[:len(parts)], parts)
	}
	if !slices.ContainsFunc(r.begin, beginsWith) {
		return fmt.Errorf("it begins with %q; only a statement that begins with %s sets up a session", firstWord(statement), strings.Join(r.begin, " or "))
	}
	for _, word := range words {
		if slices.Contains(r.refuse, word) {
			return fmt.Errorf("it holds the word %s, which reaches beyond the settings of a session; delete it, or have a DBA run it", word)
		}
	}
	return nil
}

// startupError says which of the statements failed.
func startupError(i int, err error) error {
	return fmt.Errorf("statement %d of startup_sql: %w", i+1, err)
}
