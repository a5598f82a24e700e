package config

import (
	"errors"
	"net/url"
	"strings"
)

var (
	errNotDSN = errors.New("is not a connection string of PostgreSQL")
	errTwoAts = errors.New("has another @ than the one before the host")
)

// postgresAddress returns host and port of a libpq connection string, those
// of the first host if it has several. It is lenient, as the driver has the
// last word on the string, and its error quotes nothing of it.
func postgresAddress(dsn string) (host, port string, err error) {
	scheme, rest, isURL := strings.Cut(dsn, "://")
	switch {
	case isURL && (scheme == "postgres" || scheme == "postgresql"):
		path, _, _ := strings.Cut(rest, "?")
		if at := strings.Index(path, "@"); at != strings.LastIndex(path, "@") || at > len(authority(rest)) {
			return "", "", errTwoAts
		}
		host, port = urlAddress(rest)
	case !isURL || strings.Contains(scheme, "="):
		settings, ok := keywords(dsn)
		if !ok {
			return "", "", errNotDSN
		}
		host, port = settings["host"], settings["port"]
	default:
		return "", "", errNotDSN
	}
	host, _, _ = strings.Cut(host, ",")
	port, _, _ = strings.Cut(port, ",")
	if host == "" {
		host = "localhost"
	}
	if port == "" {
		port = "5432"
	}
	return host, port, nil
}

// authority returns the part of a URL that has user, password, hosts and ports,
// of what follows the scheme.
func authority(rest string) string {
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return rest[:i]
	}
	return rest
}

// urlAddress reads what follows the scheme of a connection URL. Host and port
// may also stand in the query.
func urlAddress(rest string) (host, port string) {
	before := authority(rest)
	tail := rest[len(before):]
	host = before[strings.LastIndex(before, "@")+1:]
	host, _, _ = strings.Cut(host, ",")
	if colon := strings.LastIndex(host, ":"); colon > strings.LastIndex(host, "]") {
		host, port = host[:colon], host[colon+1:]
	}
	host = strings.Trim(host, "[]")
	if unescaped, err := url.PathUnescape(host); err == nil {
		host = unescaped
	}
	_, query, _ := strings.Cut(tail, "?")
	// What does not parse is left to the driver.
	settings, _ := url.ParseQuery(query)
	if h := settings.Get("host"); h != "" {
		host = h
	}
	if p := settings.Get("port"); p != "" {
		port = p
	}
	return host, port
}

// keywords reads "key=value key='quoted value'" with backslash escapes.
func keywords(dsn string) (map[string]string, bool) {
	settings := map[string]string{}
	for dsn = strings.TrimSpace(dsn); dsn != ""; dsn = strings.TrimSpace(dsn) {
		key, rest, found := strings.Cut(dsn, "=")
		key = strings.TrimSpace(key)
		if !found || key == "" || strings.ContainsAny(key, " '\t\n") {
			return nil, false
		}
		settings[key], dsn = keywordValue(strings.TrimLeft(rest, " \t\n"))
	}
	return settings, len(settings) > 0
}

// keywordValue returns the value that s begins with and what follows it.
func keywordValue(s string) (value, rest string) {
	end := " \t\n"
	if strings.HasPrefix(s, "'") {
		s, end = s[1:], "'"
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case strings.IndexByte(end, s[i]) >= 0:
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
