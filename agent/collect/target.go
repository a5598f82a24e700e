package collect

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// target is what a scrape would have attached to every series of a source.
type target struct {
	labels labels.Labels // config.Source.Labels: also on the page
	remote labels.Labels // job and instance: only in the log
}

func newTarget(job, instance string, extra labels.Labels) target {
	return target{
		labels: extra,
		remote: labels.FromStrings(model.JobLabel, job, model.InstanceLabel, instance),
	}
}

// attach returns the label set for the log and the one for the page. lb holds
// the series' own labels, and is used up.
func (t target) attach(name string, lb *labels.Builder) (log, page labels.Labels) {
	t.labels.Range(func(l labels.Label) { lb.Set(l.Name, l.Value) })
	page = lb.Labels()
	lb.Set(model.MetricNameLabel, name)
	t.remote.Range(func(l labels.Label) { lb.Set(l.Name, l.Value) })
	return lb.Labels(), page
}

// override returns the label set for the log and the one for the page of a
// series that was scraped whole. A label that the target has too keeps its
// value as exported_<name>, as Prometheus does it without honor_labels; the
// page does not yet do so for job and instance, which it does not attach.
func (t target) override(exposed labels.Labels) (log, page labels.Labels) {
	lb := labels.NewBuilder(exposed)
	override(lb, exposed, t.labels)
	page = lb.Del(model.MetricNameLabel).Labels()
	lb.Reset(exposed)
	override(lb, exposed, t.labels, t.remote)
	return lb.Labels(), page
}

func override(lb *labels.Builder, exposed labels.Labels, attached ...labels.Labels) {
	var conflicts []labels.Label
	for _, lset := range attached {
		lset.Range(func(l labels.Label) {
			if v := exposed.Get(l.Name); v != "" {
				conflicts = append(conflicts, labels.Label{Name: l.Name, Value: v})
			}
			lb.Set(l.Name, l.Value)
		})
	}
	// Shorter names first, so that a label of the target that is itself called
	// exported_ is found taken.
	slices.SortStableFunc(conflicts, func(a, b labels.Label) int { return len(a.Name) - len(b.Name) })
	for _, l := range conflicts {
		name := model.ExportedLabelPrefix + l.Name
		for lb.Get(name) != "" {
			name = model.ExportedLabelPrefix + name
		}
		lb.Set(name, l.Value)
	}
}
