package sources

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// defaultMatchLimit is how many keys a pattern may match where LIMIT says
// nothing else.
const defaultMatchLimit = 10_000

// redisStatement is one command as a query writes it.
type redisStatement struct {
	// args are the command and its arguments. Where it has a pattern in place of
	// a key, args[match.at] is for each key in turn.
	args  []string
	match *redisMatch // nil: there is no pattern
}

// redisMatch is MATCH pattern [TYPE type] [LIMIT count], which stands in place
// of a key and means every key that SCAN finds.
type redisMatch struct {
	at      int // among the arguments; 0: the command takes no key
	pattern string
	kind    string // list, set, ...; empty: any
	limit   int
}

// name returns the command in capitals, as it is known in errors and tables:
// GET, or CONFIG GET for one of a command's own commands.
func (s redisStatement) name() string {
	name := strings.ToUpper(s.args[0])
	if redisContainers[name] && len(s.args) > 1 {
		name += " " + strings.ToUpper(s.args[1])
	}
	return name
}

// parseRedis reads a statement and refuses what no server would be asked for.
func parseRedis(text string) (redisStatement, error) {
	if strings.Contains(text, "{{cursor}}") {
		return redisStatement{}, errors.New("{{cursor}} means nothing in Redis; write a command that gives all there is")
	}
	words, err := redisWords(text)
	if err != nil {
		return redisStatement{}, err
	}
	if len(words) == 0 {
		return redisStatement{}, errors.New("no command found; write one such as INFO or LLEN queue")
	}
	s, err := readMatch(words)
	if err != nil {
		return redisStatement{}, err
	}
	if s.args[0] == "" {
		return redisStatement{}, errors.New("the name of the command is empty; write one such as INFO or LLEN queue")
	}
	name := s.name()
	if instead, refused := redisRefused[name]; refused && (name != "SCAN" || s.match == nil || s.match.at > 0) {
		return redisStatement{}, fmt.Errorf("%s is not run; %s", name, instead)
	}
	return s, nil
}

// readMatch takes the words of a pattern out of a command.
func readMatch(words []redisWord) (redisStatement, error) {
	var s redisStatement
	for i := 0; i < len(words); i++ {
		if !words[i].is("MATCH") || i == 0 {
			s.args = append(s.args, words[i].text)
			continue
		}
		if s.match != nil {
			return s, errors.New(`a second MATCH; quote it ("MATCH") if it is no pattern of keys`)
		}
		if i+1 == len(words) {
			return s, errors.New(`MATCH without a pattern; write one such as queue:*, or quote the word ("MATCH") if it is no pattern of keys`)
		}
		m := redisMatch{at: len(s.args), pattern: words[i+1].text, limit: defaultMatchLimit}
		i++
	options:
		for i+2 < len(words) {
			switch option, value := words[i+1], words[i+2].text; {
			case option.is("TYPE"):
				m.kind = value
			case option.is("LIMIT"):
				limit, err := strconv.Atoi(value)
				if err != nil || limit < 1 || limit > maxMatchLimit {
					return s, fmt.Errorf("LIMIT %s is not from 1 to %d", value, maxMatchLimit)
				}
				m.limit = limit
			default:
				break options
			}
			i += 2
		}
		if name := strings.ToUpper(s.args[0]); len(s.args) == 1 && (name == "SCAN" || name == "DBSIZE") {
			m.at = 0
		} else {
			s.args = append(s.args, "")
		}
		s.match = &m
	}
	if s.match != nil && s.match.at == 0 && len(s.args) > 1 {
		return s, fmt.Errorf("%s MATCH has words behind it that are not TYPE or LIMIT; delete them", s.args[0])
	}
	return s, nil
}

// redisWord is one word of a command line.
type redisWord struct {
	text   string
	quoted bool // in part at least
}

// is tells whether w is a word of the language of queries: quoted, it would be
// an argument like any other.
func (w redisWord) is(word string) bool { return !w.quoted && strings.EqualFold(w.text, word) }

// redisWords splits a line as redis-cli does: at white space, with "..." in
// which \n, \r, \t, \b, \a, \" and \xHH stand for bytes, and '...' in which only
// \' is one.
func redisWords(line string) ([]redisWord, error) {
	var words []redisWord
	for i := 0; ; {
		for i < len(line) && isBlank(line[i]) {
			i++
		}
		if i == len(line) {
			return words, nil
		}
		var (
			w    redisWord
			text []byte
		)
		for i < len(line) && !isBlank(line[i]) {
			if c := line[i]; c != '"' && c != '\'' {
				text = append(text, c)
				i++
				continue
			}
			end, err := i, error(nil)
			if text, end, err = unquote(text, line, i); err != nil {
				return nil, err
			}
			if end < len(line) && !isBlank(line[end]) {
				return nil, fmt.Errorf("a word goes on behind its closing %c; put a blank there, or the whole word in quotes", line[i])
			}
			w.quoted = true
			i = end
		}
		w.text = string(text)
		words = append(words, w)
	}
}

// unquote appends what stands between the quote at line[i] and the one that
// closes it, and returns where the line goes on.
func unquote(dst []byte, line string, i int) (_ []byte, end int, _ error) {
	quote := line[i]
	for i++; i < len(line); i++ {
		c := line[i]
		switch {
		case c == quote:
			return dst, i + 1, nil
		case c != '\\' || i+1 == len(line):
			dst = append(dst, c)
		case quote == '\'':
			if line[i+1] == '\'' {
				i++
			}
			dst = append(dst, line[i])
		case line[i+1] == 'x' && i+3 < len(line) && isHex(line[i+2]) && isHex(line[i+3]):
			b, _ := strconv.ParseUint(line[i+2:i+4], 16, 8)
			dst = append(dst, byte(b))
			i += 3
		default:
			i++
			dst = append(dst, unescape(line[i]))
		}
	}
	return dst, i, fmt.Errorf("a %c is not closed; add one, or write \\%c for the character", quote, quote)
}

// unescape returns the byte that a letter behind a backslash means.
func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
