package sources

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// mysqlLimits is how a server takes a time limit.
type mysqlLimits uint8

const (
	limitNone      mysqlLimits = iota // not at all: MySQL 5.6
	limitStatement                    // with the statement: MariaDB
	limitSession                      // by a variable of the session, and for SELECT alone: MySQL
)

// prepare makes the session read-only, before and after the operator's own
// statements, has it commit by itself, as the login has already, and asks what has to be known of it.
func (c *mysqlConn) prepare(ctx context.Context, startup []string) error {
	if err := c.protect(ctx); err != nil {
		return err
	}
	for i, statement := range startup {
		if err := c.exec(ctx, statement); err != nil {
			return startupError(i, err)
		}
	}
	if len(startup) > 0 {
		if err := c.exec(ctx, "SET SESSION autocommit = 1"); err != nil {
			return fmt.Errorf("make the session commit by itself: %w", err)
		}
		if err := c.protect(ctx); err != nil {
			return err
		}
	}
	return c.ask(ctx)
}

func (c *mysqlConn) protect(ctx context.Context) error {
	if err := c.exec(ctx, "SET SESSION TRANSACTION READ ONLY"); err != nil {
		return fmt.Errorf("make the session read-only: %w", err)
	}
	return nil
}

// ask fills in what has to be known of the session: how to kill it, how it
// takes a time limit and in which zone it prints times.
func (c *mysqlConn) ask(ctx context.Context) error {
	rows, err := c.QueryContext(ctx, `SELECT CAST(CONNECTION_ID() AS CHAR), VERSION(), @@session.time_zone, @@system_time_zone,
		TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), NOW())`, nil)
	if err == nil {
		err = c.readRows(rows, func(r *Row) error {
			texts := make([]string, len(r.Values))
			for i, v := range r.Values {
				texts[i] = string(v.AppendText(nil))
			}
			offset, err := strconv.Atoi(texts[4])
			c.id, c.version, c.limits, c.zone = texts[0], texts[1], limitSession, sessionZone(texts[2], texts[3], offset)
			if c.isMariaDB() {
				c.limits = limitStatement
			}
			return err
		})
		err = errors.Join(err, rows.Close())
	}
	if err != nil {
		return fmt.Errorf("ask about the session: %w", err)
	}
	return nil
}

// sessionZone returns the zone in which a session prints times, by name if it
// is known here by the one it has there. What is left is an offset in seconds,
// right for the times of this half of the year.
func sessionZone(name, system string, offset int) *time.Location {
	if name == "SYSTEM" {
		name = system
	}
	if zone, err := time.LoadLocation(name); err == nil && name != "" && name != "Local" {
		if _, known := time.Now().In(zone).Zone(); known == offset {
			return zone
		}
	}
	return time.FixedZone("", offset)
}
