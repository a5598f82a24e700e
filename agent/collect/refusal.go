package collect

import "strings"

// reason says why a cell became no sample; its String is the value of the
// label reason of sql2metrics_query_samples_refused_total.
type reason int

// The closed list of reasons.
const (
	refusedNull             reason = iota // the value is NULL
	refusedUnparsable                     // the value is not a number
	refusedDuplicate                      // another row of the round had the same labels
	refusedMissingColumn                  // the result lacks a column
	refusedInvalidLabel                   // a label value is not UTF-8
	refusedLabelLimit                     // too many labels, or one that is too long
	refusedSeriesLimit                    // limits.max_series
	refusedUnknownState                   // not one of the states of a stateset
	refusedNaN                            // an observation that is NaN or infinite, or makes the sum so
	refusedInvalidHistogram               // buckets that make no histogram: the whole of it
	refusedInvalidQuantile                // not from 0 to 1
	refusedInvalidSummary                 // a summary's count that is none
	refusedLimit                          // came behind row_limit or sample_limit
	refusedFuture                         // its own time is too far ahead
	refusedOld                            // its own time is older than max_age
	refusedRelabel                        // metric_relabel_configs drop it
	refusedNotNewer                       // its own time is not after what was sent of the series
	refusedTime                           // the log has a sample of the series that is not older
	refusedTooLarge                       // the log has no room for the series' labels
	reasons
)

var reasonNames = [reasons]string{
	"null", "unparsable", "duplicate", "missing_column", "invalid_label", "label_limit", "series_limit",
	"unknown_state", "nan", "invalid_histogram", "invalid_quantile", "invalid_summary", "limit", "future", "max_age", "metric_relabel", "not_newer", "time", "too_large",
}

// String returns the label value.
func (r reason) String() string { return reasonNames[r] }

// byLog tells whether the log refuses for that reason: what is counted are
// samples then, and no cells.
func (r reason) byLog() bool { return r == refusedTime || r == refusedTooLarge }

// reasonList is the closed list as a sentence has it.
func reasonList() string { return strings.Join(reasonNames[:], ", ") }

// refused is why something became no sample.
type refused struct {
	reason reason
	err    error
}

// refusals counts the cells of one metric, and those that became no sample, round
// by round, and keeps one explanation per reason for the log: only the round in
// which a reason first shows up is explained, until a round without it.
//
// Each cell that is offered is used or refused in the end.
type refusals struct {
	offered int
	used    int
	counts  [reasons]int
	known   [reasons]bool // the round before had it as well
	why     [reasons]error
}

// offer counts n cells that the metric looks for.
func (r *refusals) offer(n int) { r.offered += n }

// use counts n cells that are, or are a part of, a sample.
func (r *refusals) use(n int) { r.used += n }

// count adds what has been counted in the round to c.
func (r *refusals) count(c *counts) {
	c.cells += uint64(r.offered)
	c.used += uint64(r.used)
	for why, n := range r.counts {
		c.refused[why] += uint64(n)
	}
	r.offered, r.used = 0, 0
}

// refuse counts n cells and tells whether the caller should explain.
func (r *refusals) refuse(why reason, n int) (explain bool) {
	r.counts[why] += n
	return n > 0 && !r.known[why] && r.why[why] == nil
}

// explain keeps what to log about a reason.
func (r *refusals) explain(why reason, err error) { r.why[why] = err }

// refuseAs is refuse for a reason that has its explanation with it.
func (r *refusals) refuseAs(why *refused, n int) {
	if r.refuse(why.reason, n) {
		r.explain(why.reason, why.err)
	}
}

// withdraw refuses n cells that have been used.
func (r *refusals) withdraw(why *refused, n int) {
	r.use(-n)
	r.refuseAs(why, n)
}

// end closes the round: report is called for each reason that occurred in it,
// with err only where the round before did not have it.
func (r *refusals) end(report func(why reason, count int, err error)) {
	for why := range reasons {
		if n := r.counts[why]; n > 0 {
			report(why, n, r.why[why])
		}
		r.known[why] = r.counts[why] > 0
		r.counts[why], r.why[why] = 0, nil
	}
}
