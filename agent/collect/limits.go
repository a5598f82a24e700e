package collect

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
)

var overSeriesLimit = &refused{refusedSeriesLimit, errors.New("the agent has as many series as limits.max_series allows: raise it, or have queries return fewer rows")}

// checkLabels refuses a label set that is beyond the limits, counting as
// Prometheus does: the name and the labels of the target are among them.
func checkLabels(lset labels.Labels, limits config.LabelLimits) (why *refused) {
	if n := lset.Len(); limits.Count > 0 && n > limits.Count {
		return &refused{refusedLabelLimit, fmt.Errorf("%s has %d labels, and label_limit is %d", lset, n, limits.Count)}
	}
	if limits.NameLength == 0 && limits.ValueLength == 0 {
		return nil
	}
	lset.Range(func(l labels.Label) {
		switch {
		case why != nil:
		case limits.NameLength > 0 && len(l.Name) > limits.NameLength:
			why = &refused{refusedLabelLimit, fmt.Errorf("the label name %q has %d bytes, and label_name_length_limit is %d", l.Name, len(l.Name), limits.NameLength)}
		case limits.ValueLength > 0 && len(l.Value) > limits.ValueLength:
			why = &refused{refusedLabelLimit, fmt.Errorf("the value of label %s begins with %q and has %d bytes, and label_value_length_limit is %d: shorten it in the query",
				l.Name, l.Value[:min(len(l.Value), 40)], len(l.Value), limits.ValueLength)}
		}
	})
	return why
}

// overLimit is why what comes behind a limit is refused. That it was cut there
// is counted and need not be explained.
var overLimit = &refused{refusedLimit, nil}

// limitError says that a result has more of something than its query allows.
// Where on_limit is drop the run fails with it.
type limitError struct {
	of    string // rows or samples
	key   string // the limit's in the configuration
	limit int
}

func (e *limitError) Error() string {
	return fmt.Sprintf("the result has more than %d %s: return fewer, or raise %s", e.limit, e.of, e.key)
}

// overRows returns a [*limitError] for the first row beyond row_limit.
func overRows(p config.Policies, rows int) error {
	if p.RowLimit > 0 && rows > p.RowLimit {
		return &limitError{"rows", "row_limit", p.RowLimit}
	}
	return nil
}
