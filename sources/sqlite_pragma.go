package sources

import (
	"errors"
	"slices"
	"strings"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// A PRAGMA that sets something does so while it is compiled, even behind
// EXPLAIN, and a file opened to read keeps none of them from it:
// locking_mode=EXCLUSIVE keeps the application out for as long as the
// connection is open. So SQLite asks before it compiles one, from wherever it
// comes: a statement, or a table such as pragma_optimize.

// readingPragmas are those that a query may use. One with an argument sets
// something, unless it is one of arguedPragmas.
var readingPragmas = []string{
	"application_id", "auto_vacuum", "cache_size", "collation_list", "compile_options", "data_version", "database_list",
	"encoding", "foreign_keys", "freelist_count", "function_list", "journal_size_limit", "max_page_count",
	"mmap_size", "module_list", "page_count", "page_size", "pragma_list", "schema_version", "synchronous", "temp_store",
	"user_version", "wal_autocheckpoint",
}

// arguedPragmas take the name of what they tell about, or how many errors to
// list.
var arguedPragmas = []string{
	"foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo", "integrity_check", "quick_check",
	"table_info", "table_list", "table_xinfo",
}

// settingPragmas are those that startup_sql may use: what they set is the
// connection's own, and stands in nobody's way.
var settingPragmas = []string{"cache_size", "case_sensitive_like", "temp_store"}

// authorizer is xAuth of sqlite3_set_authorizer. The first two texts are the
// name and the argument of a PRAGMA; an argument that is not there is NULL.
type authorizer func(tls *libc.TLS, data uintptr, action int32, first, second, schema, trigger uintptr) int32

func authorizeQuery(_ *libc.TLS, _ uintptr, action int32, name, argument, _, _ uintptr) int32 {
	pragma := pragmaName(action, name)
	return verdict(pragma == "" || slices.Contains(arguedPragmas, pragma) ||
		argument == 0 && slices.Contains(readingPragmas, pragma))
}

func authorizeStartup(_ *libc.TLS, _ uintptr, action int32, name, _, _, _ uintptr) int32 {
	pragma := pragmaName(action, name)
	return verdict(pragma == "" || slices.Contains(settingPragmas, pragma))
}

// pragmaName returns which PRAGMA SQLite is about to compile, if it is one.
func pragmaName(action int32, name uintptr) string {
	if action != sqlite3.SQLITE_PRAGMA {
		return ""
	}
	return strings.ToLower(libc.GoString(name))
}

func verdict(allowed bool) int32 {
	if allowed {
		return sqlite3.SQLITE_OK
	}
	return sqlite3.SQLITE_DENY
}

// authorize has a decide on what is compiled on c from here on.
func (c *sqliteConn) authorize(a authorizer) {
	sqlite3.Xsqlite3_set_authorizer(c.tls, c.db, *(*uintptr)(unsafe.Pointer(&a)), 0)
}

// errPragma is what the user is told when an authorizer said no.
var errPragma = errors.New("PRAGMA that is not run: queries may use those that only read, without an argument that sets something, and startup_sql " +
	strings.Join(settingPragmas, ", "))
