package collect

import (
	"fmt"
	"math"

	"sql2metrics/sources"
)

// maxExact is up to where a float64, and so a sample, has all whole numbers.
const maxExact = 1 << 53

// rounding counts the cells of one metric that are whole numbers no float64
// has, such as ids and counters of 64 bits. The sample has the nearest that one
// has; as a label they stay exact. Like a refusal it is explained in the first
// round only that has one.
type rounding struct {
	count int
	known bool  // the round before had one too
	why   error // the first of the round
}

// check counts the cell of a column, of which x became the sample, if x is
// another number.
func (n *rounding) check(column string, v sources.Value, x float64) {
	if math.Abs(x) < maxExact || v.Exactly(x) {
		return
	}
	if n.count++; n.count == 1 && !n.known {
		n.why = fmt.Errorf("column %q is %s and its sample %.0f, the nearest that a float64 has: divide it in the query, or make it a label", column, v.AppendText(nil), x)
	}
}

// end closes the round and returns how many cells it rounded, and why if the
// round before rounded none.
func (n *rounding) end() (count int, why error) {
	count, why = n.count, n.why
	n.count, n.known, n.why = 0, n.count > 0, nil
	return count, why
}
