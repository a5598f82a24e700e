package agent

import (
	"reflect"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
)

// report is what a reload changes, for the log.
type report struct{ sources, queries, endpoints change }

// change names the things of one kind that come, go, or become others.
type change struct {
	added, changed, removed []string
	kept                    int
}

// compare reports what n changes. A source has changed if its own settings
// have; a query also if it is asked through another client or its series have
// other labels.
func (a *Agent) compare(n *succession) report {
	return report{
		sources: compare(a.sources, n.sources, func(s *source) string { return s.config.Name }, func(x, y *source) bool {
			return sameClient(x.config, y.config) && sameTarget(x.config, y.config) && x.config.Interval == y.config.Interval
		}),
		queries: compare(queriesOf(a.sources), queriesOf(n.sources), func(q query) string { return q.name }, func(x, y query) bool {
			return x.task == y.task
		}),
		endpoints: compare(a.config.RemoteWrite, n.config.RemoteWrite, func(e config.RemoteWrite) string { return e.Name }, func(x, y config.RemoteWrite) bool {
			return reflect.DeepEqual(x, y) && labels.Equal(a.config.Global.ExternalLabels, n.config.Global.ExternalLabels)
		}),
	}
}

type query struct {
	name string
	task *task
}

func queriesOf(sources []*source) (all []query) {
	for _, s := range sources {
		for i, q := range s.config.Queries {
			all = append(all, query{s.config.Name + "/" + q.Collector + "/" + q.Name, s.queries[i]})
		}
	}
	return all
}

func compare[T any](before, after []T, name func(T) string, same func(before, after T) bool) (c change) {
	was := map[string]T{}
	for _, x := range before {
		was[name(x)] = x
	}
	for _, y := range after {
		x, found := was[name(y)]
		delete(was, name(y))
		switch {
		case !found:
			c.added = append(c.added, name(y))
		case same(x, y):
			c.kept++
		default:
			c.changed = append(c.changed, name(y))
		}
	}
	for _, x := range before {
		if _, gone := was[name(x)]; gone {
			c.removed = append(c.removed, name(x))
		}
	}
	return c
}

// attributes are the report in a line of the log: names of what is not as it
// was, and numbers of what is.
func (r report) attributes() (all []any) {
	for _, kind := range []struct {
		name string
		change
	}{{"sources", r.sources}, {"queries", r.queries}, {"endpoints", r.endpoints}} {
		for _, names := range []struct {
			verb  string
			names []string
		}{{"added", kind.added}, {"changed", kind.changed}, {"removed", kind.removed}} {
			if len(names.names) > 0 {
				all = append(all, kind.name+"_"+names.verb, names.names)
			}
		}
		all = append(all, kind.name+"_kept", kind.kept)
	}
	return all
}
