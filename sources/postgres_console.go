package sources

import (
	"context"
	"errors"
	"strings"

	"sql2metrics/config"
)

// isConsole tells whether the server is pgbouncer itself: the database
// pgbouncer is its admin console. It knows the simple protocol alone, no
// transactions, no comments, and no time limit, which its answers do not need.
func (c *pgConn) isConsole() bool {
	return strings.HasSuffix(c.ParameterStatus("server_version"), "/bouncer")
}

// errCommand is what any command of a console gets that is not SHOW: all others
// change something.
var errCommand = errors.New("the console of pgbouncer is asked nothing but one SHOW command, such as SHOW POOLS")

// show runs a SHOW command of a console. All values are texts, of which numbers
// are read as numbers.
func (c *pgConn) show(ctx context.Context, q config.Query, each func(*Row) error) error {
	command := strings.TrimRight(dialects[config.TypePostgres].skipToStatement(q.SQL), "; \t\r\n")
	if firstWord(command) != "SHOW" || strings.ContainsRune(command, ';') {
		return errCommand
	}
	ctx, cancel := withTimeout(ctx, q.Timeout)
	defer cancel()
	c.reached = false
	results := c.Exec(ctx, command)
	err := func() error {
		for results.NextResult() {
			c.reached = true
			result := results.ResultReader()
			c.prepareRow(result.FieldDescriptions())
			for result.NextRow() {
				if err := c.decodeRow(result.Values()); err != nil {
					return err
				}
				if err := each(&c.row); err != nil {
					return err
				}
			}
		}
		return nil
	}()
	if end := results.Close(); err == nil {
		err = end
	}
	return asLimit(asTimeout(ctx, q.Timeout, err))
}
