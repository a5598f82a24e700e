package sources

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"sql2metrics/config"
)

// dialect is what has to be known of a kind of SQL to find a statement's verb.
type dialect struct {
	// verbs are those with which a statement may begin: they return rows, and a
	// read-only transaction or an SQLite file opened to read keeps them from
	// writing.
	verbs    []string
	lineEnds string // characters that end a comment of the form --
	nested   bool   // a comment of the form /* */ may hold others
	mysql    bool   // # begins a comment, and what stands in /*! */ or /*M! */ is run
}

var dialects = map[config.SourceType]dialect{
	config.TypePostgres:   {verbs: []string{"SELECT", "WITH", "SHOW", "VALUES", "TABLE", "EXPLAIN"}, lineEnds: "\n\r", nested: true},
	config.TypeClickHouse: {verbs: []string{"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN"}, lineEnds: "\n"},
	config.TypeSQLite:     {verbs: []string{"SELECT", "WITH", "VALUES", "PRAGMA", "EXPLAIN"}, lineEnds: "\n"},
	config.TypeMySQL:      {verbs: []string{"SELECT", "WITH", "SHOW", "VALUES", "TABLE", "EXPLAIN", "DESCRIBE", "DESC"}, lineEnds: "\n", mysql: true},
}

// CheckStatement tells whether s would send q to its server at all: only
// statements that begin with a verb of a short list are sent. The error names
// the verb and the list. [Source.Query] checks by itself; who loads a
// configuration calls it to report a statement before its first run. That the
// statement is right, and one only, is the server's to say.
func CheckStatement(s config.Source, q config.Query) error {
	switch s.Type {
	case config.TypeRedis:
		_, err := parseRedis(q.SQL)
		return err
	case config.TypeHTTPJSON:
		_, err := parseJSONRequest(s, q)
		return err
	}
	d, ok := dialects[s.Type]
	if !ok {
		return fmt.Errorf("a source of type %s runs no statements", s.Type)
	}
	sql := q.SQL
	last := len(d.verbs) - 1
	allowed := strings.Join(d.verbs[:last], ", ") + " or " + d.verbs[last]
	verb := firstWord(d.skipToStatement(sql))
	switch {
	case verb == "":
		return errors.New("no statement found; write one that begins with " + allowed)
	case !slices.Contains(d.verbs, verb):
		return fmt.Errorf("statement begins with %s, which is not run; write one that begins with %s", verb, allowed)
	}
	return nil
}

// skipToStatement leaves out the white space, comments and parentheses at the
// beginning of sql. A comment that does not end hides all that follows.
func (d dialect) skipToStatement(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\n\r\f\v(")
		switch {
		case strings.HasPrefix(sql, "--"), d.mysql && strings.HasPrefix(sql, "#"):
			end := strings.IndexAny(sql, d.lineEnds)
			if end < 0 {
				return ""
			}
			sql = sql[end:]
		case d.mysql && (strings.HasPrefix(sql, "/*!") || strings.HasPrefix(sql, "/*M!")):
			return sql
		case strings.HasPrefix(sql, "/*"):
			sql = d.skipComment(sql)
		default:
			return sql
		}
	}
}

// skipComment returns what follows the comment with which sql begins.
func (d dialect) skipComment(sql string) string {
	sql = sql[len("/*"):]
	for depth := 1; depth > 0; {
		end, begin := strings.Index(sql, "*/"), strings.Index(sql, "/*")
		switch {
		case end < 0:
			return ""
		case d.nested && begin >= 0 && begin < end:
			depth++
			sql = sql[begin+len("/*"):]
		default:
			depth--
			sql = sql[end+len("*/"):]
		}
	}
	return sql
}

// maxVerb is how much of a word that is no verb an error shows.
const maxVerb = 20

// firstWord returns the word with which sql begins, in capitals.
func firstWord(sql string) string {
	var word []rune
	for _, r := range sql {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_':
			return strings.ToUpper(string(word))
		case len(word) == maxVerb:
			return strings.ToUpper(string(word)) + "…"
		}
		word = append(word, r)
	}
	return strings.ToUpper(string(word))
}
