package collect

import (
	"errors"
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
)

var overSeriesLimit = &refused{refusedSeriesLimit, errors.New("the agent has as many series as limits.max_series allows: raise it, or have queries return fewer rows")}

// checkLabels refuses a label set that is beyond the limits, counting as
// Prometheus does: the name and the labels of the target are among them.
func checkLabels(lset labels.Labels, limits config.LabelLimits) *refused {
	if err := overLabels(lset, limits); err != nil {
		return &refused{refusedLabelLimit, fmt.Errorf("%w: shorten it in the query, or raise the limit", err)}
	}
	return nil
}

// overLabels says which limit a label set is beyond.
func overLabels(lset labels.Labels, limits config.LabelLimits) (err error) {
	if n := lset.Len(); limits.Count > 0 && n > limits.Count {
		return fmt.Errorf("%s has %d labels, and label_limit is %d", brief(lset.String()), n, limits.Count)
	}
	if limits.NameLength == 0 && limits.ValueLength == 0 {
		return nil
	}
	name := lset.Get(model.MetricNameLabel)
	lset.Range(func(l labels.Label) {
		switch {
		case err != nil:
		case limits.NameLength > 0 && len(l.Name) > limits.NameLength:
			err = fmt.Errorf("%s: the label name %q has %d bytes, and label_name_length_limit is %d", brief(name), brief(l.Name), len(l.Name), limits.NameLength)
		case limits.ValueLength > 0 && len(l.Value) > limits.ValueLength:
			err = fmt.Errorf("%s: the value of label %s begins with %q and has %d bytes, and label_value_length_limit is %d",
				brief(name), brief(l.Name), l.Value[:min(len(l.Value), 40)], len(l.Value), limits.ValueLength)
		}
	})
	return err
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
