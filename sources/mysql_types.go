package sources

import (
	"bytes"
	"database/sql/driver"
	"slices"
	"strconv"
	"time"
)

// mysqlKind is how the text of a column is read. Numbers come as such from the
// driver.
type mysqlKind uint8

const (
	mysqlText mysqlKind = iota
	mysqlBits
	mysqlDate
	mysqlMoment // DATETIME and TIMESTAMP
	mysqlTime
)

// prepareRow makes c ready for a result's rows. The columns' names keep their
// slice for as long as the result has the same.
func (c *mysqlConn) prepareRow(rows driver.Rows) {
	columns := rows.Columns()
	if !slices.Equal(c.row.Columns, columns) {
		c.row.Columns = columns
	}
	c.row.Values = slices.Grow(c.row.Values[:0], len(columns))[:len(columns)]
	c.cells = slices.Grow(c.cells[:0], len(columns))[:len(columns)]
	c.kinds = c.kinds[:0]
	typed := rows.(driver.RowsColumnTypeDatabaseTypeName)
	for i := range columns {
		kind := mysqlText
		switch typed.ColumnTypeDatabaseTypeName(i) {
		case "BIT":
			kind = mysqlBits
		case "DATE":
			kind = mysqlDate
		case "DATETIME", "TIMESTAMP":
			kind = mysqlMoment
		case "TIME":
			kind = mysqlTime
		}
		c.kinds = append(c.kinds, kind)
	}
}

// decodeRow turns the driver's cells into values. The texts among them are
// valid as long as the driver's row.
func (c *mysqlConn) decodeRow() {
	for i, cell := range c.cells {
		var v Value
		switch cell := cell.(type) {
		case []byte:
			v = c.decodeText(c.kinds[i], cell)
		case int64:
			v = IntValue(cell)
		case uint64:
			v = UintValue(cell)
		case float64:
			v = FloatValue(cell)
		case float32:
			v = c.decodeFloat(cell)
		}
		c.row.Values[i] = v
	}
}

func (c *mysqlConn) decodeText(kind mysqlKind, b []byte) Value {
	switch kind {
	case mysqlBits:
		var bits uint64
		for _, octet := range b {
			bits = bits<<8 | uint64(octet)
		}
		return UintValue(bits)
	case mysqlDate:
		return parseMoment(b, time.UTC)
	case mysqlMoment:
		return parseMoment(b, c.zone)
	case mysqlTime:
		return parseDuration(b)
	}
	return TextValue(b)
}

// decodeFloat gives a FLOAT the decimal that the server printed, and not the
// digits that widening its bits would add.
func (c *mysqlConn) decodeFloat(f float32) Value {
	c.scratch = strconv.AppendFloat(c.scratch[:0], float64(f), 'g', -1, 32)
	wide, err := parseNumber(c.scratch)
	if err != nil {
		return FloatValue(float64(f))
	}
	return FloatValue(wide)
}

// parseMoment reads "2026-07-01" or "2026-07-01 12:00:00.25" as the time it is
// in zone. A date that no calendar has, such as 0000-00-00 or 2026-02-00, which
// the server may hold, is NULL. What is no date at all is the text it is.
func parseMoment(b []byte, zone *time.Location) Value {
	day, clock, hasClock := bytes.Cut(b, []byte(" "))
	year, rest, ok1 := cutNumber(day, '-')
	month, rest, ok2 := cutNumber(rest, '-')
	date, _, ok3 := cutNumber(rest, 0)
	if !ok1 || !ok2 || !ok3 {
		return TextValue(b)
	}
	var hour, minute, second, nanos int
	if hasClock {
		if hour, minute, second, nanos, ok1 = parseClock(clock); !ok1 {
			return TextValue(b)
		}
	}
	t := time.Date(year, time.Month(month), date, hour, minute, second, nanos, zone)
	if year == 0 || month < 1 || month > 12 || date < 1 || date > daysIn(year, month) {
		return Value{}
	}
	return TimeValue(t)
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// parseDuration reads a TIME, which is a length as much as a time of day:
// "-838:59:59.5" are seconds.
func parseDuration(b []byte) Value {
	clock, negative := bytes.CutPrefix(b, []byte("-"))
	hour, minute, second, nanos, ok := parseClock(clock)
	if !ok {
		return TextValue(b)
	}
	seconds := float64(hour*3600+minute*60+second) + float64(nanos)/1e9
	if negative {
		seconds = -seconds
	}
	return FloatValue(seconds)
}

// parseClock reads "13:14:15.25".
func parseClock(b []byte) (hour, minute, second, nanos int, ok bool) {
	hour, rest, ok1 := cutNumber(b, ':')
	minute, rest, ok2 := cutNumber(rest, ':')
	second, fraction, ok3 := cutNumber(rest, '.')
	for unit := 100_000_000; len(fraction) > 0 && unit > 0; unit /= 10 {
		if fraction[0] < '0' || fraction[0] > '9' {
			return 0, 0, 0, 0, false
		}
		nanos += int(fraction[0]-'0') * unit
		fraction = fraction[1:]
	}
	return hour, minute, second, nanos, ok1 && ok2 && ok3
}

// cutNumber reads the digits up to separator, or to the end of b, and returns
// what follows.
func cutNumber(b []byte, separator byte) (n int, rest []byte, ok bool) {
	for i, c := range b {
		switch {
		case c == separator && i > 0:
			return n, b[i+1:], true
		case c < '0' || c > '9' || i >= 9:
			return 0, nil, false
		}
		n = n*10 + int(c-'0')
	}
	return n, nil, len(b) > 0
}
