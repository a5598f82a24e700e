package sources

import (
	"context"
	"fmt"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"sql2metrics/config"
)

// admit returns a [*NotApplicableError] if r does not hold of the library and
// the file. Its extensions are the library's modules.
func (c *sqliteConn) admit(ctx context.Context, r config.Requires) error {
	if r.IsZero() {
		return nil
	}
	f := facts{version: libc.GoString(sqlite3.Xsqlite3_libversion(c.tls)), role: config.RolePrimary}
	if len(r.Extensions) > 0 {
		err := c.query(ctx, "PRAGMA module_list", func(row *Row) error {
			f.extensions = append(f.extensions, string(row.Values[0].AppendText(nil)))
			return nil
		})
		if err != nil {
			return fmt.Errorf("ask what the query requires: %w", err)
		}
	}
	return f.admit(r)
}
