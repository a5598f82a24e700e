package collect

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"sql2metrics/config"
)

// target is what a scrape would have attached to every series of a source.
type target struct {
	labels labels.Labels // config.Source.Labels: also on the page
	remote labels.Labels // job and instance: only in the log
	all    labels.Labels // both
}

func newTarget(job, instance string, extra labels.Labels) target {
	t := target{
		labels: extra,
		remote: labels.FromStrings(model.JobLabel, job, model.InstanceLabel, instance),
	}
	lb := labels.NewBuilder(extra)
	t.remote.Range(func(l labels.Label) { lb.Set(l.Name, l.Value) })
	t.all = lb.Labels()
	return t
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

// report returns the label set of a series that goes with each scrape. As in
// Prometheus a label of the target is not there where it is the exported_ one of
// another that comes behind it.
func (t target) report(name string) labels.Labels {
	lb := labels.NewBuilder(labels.FromStrings(model.MetricNameLabel, name))
	t.all.Range(func(l labels.Label) { lb.Del(model.ExportedLabelPrefix+l.Name).Set(l.Name, l.Value) })
	return lb.Labels()
}

// scraped returns the label set for the log and the one for the page of a
// series that was scraped whole; both are empty if metric_relabel_configs drop
// it. The page leaves job and instance to whoever scrapes it, unless they are
// the series' own.
func (t target) scraped(exposed labels.Labels, s *config.Scrape) (log, page labels.Labels) {
	lb := labels.NewBuilder(exposed)
	if s.HonorLabels {
		honor(lb, exposed, t.labels)
		page = lb.Labels()
		honor(lb, exposed, t.remote)
	} else {
		override(lb, exposed, t.labels)
		page = lb.Labels()
		lb.Reset(exposed)
		override(lb, exposed, t.all)
	}
	if len(s.MetricRelabel) > 0 {
		before := lb.Labels()
		if !relabel.ProcessBuilder(lb, s.MetricRelabel...) {
			return labels.EmptyLabels(), labels.EmptyLabels()
		}
		if log = lb.Labels(); !labels.Equal(log, before) {
			t.remote.Range(func(l labels.Label) {
				if lb.Get(l.Name) == l.Value && (!s.HonorLabels || !exposed.Has(l.Name)) {
					lb.Del(l.Name)
				}
			})
			return log, lb.Del(model.MetricNameLabel).Labels()
		}
	}
	log = lb.Labels()
	lb.Reset(page)
	return log, lb.Del(model.MetricNameLabel).Labels()
}

// honor lets the series keep the labels it has, also such as are empty.
func honor(lb *labels.Builder, exposed, attached labels.Labels) {
	attached.Range(func(l labels.Label) {
		if !exposed.Has(l.Name) {
			lb.Set(l.Name, l.Value)
		}
	})
}

// override attaches labels. One that the series has too keeps its value as
// exported_<name>.
func override(lb *labels.Builder, exposed, attached labels.Labels) {
	var conflicts []labels.Label
	attached.Range(func(l labels.Label) {
		if v := exposed.Get(l.Name); v != "" {
			conflicts = append(conflicts, labels.Label{Name: l.Name, Value: v})
		}
		lb.Set(l.Name, l.Value)
	})
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
