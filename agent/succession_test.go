package agent

import "testing"

const took = `
  - collector_name: took
    queries: [{query_name: behind, query: "SELECT rowid AS id, n FROM orders WHERE rowid > {{cursor}} ORDER BY id"}]
    metrics: [{metric_name: took, type: histogram, help: Took., histogram: {mode: accumulate, value: n, buckets: [5]}, cursor: {column: id}, query_ref: behind}]
`

// A worker whose memory another one goes on from has ended before that one asks
// its first question; others go on until the swap.
func TestFollowedEndsFirst(t *testing.T) {
	r := newReloadable(t, "[kept, subject]", "[kept, subject, took]", "collectors:\n", "collectors:"+took)
	a := runInside(t, r.load)
	r.edit("Old.", "New.", "Took.", "It took.")
	n, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	followed := n.followed()
	if len(followed) != 1 || len(n.leaving) != 2 {
		t.Fatalf("%d workers leave, %d of them are followed", len(n.leaving), len(followed))
	}
	for _, task := range n.leaving {
		var ended bool
		select {
		case <-task.done:
			ended = true
		default:
		}
		if wanted := task == followed[0]; task.retired != wanted || ended && !wanted {
			t.Errorf("a worker that is followed: %v, is retired: %v, has ended: %v", wanted, task.retired, ended)
		}
	}
	a.swap(t.Context(), n)
}

// What the log keeps of a metric is given up by a start without it, so that it
// does not take the room of others.
func TestStartForgetsStates(t *testing.T) {
	r := newReloadable(t, "[kept, subject]", "[took]", "collectors:\n", "collectors:"+took)
	r.start()
	await(t, r.page+"/metrics", `(?m)^took_count 1$`)
	r.stop()
	for _, c := range []struct {
		collectors string
		states     int
	}{{"[took]", 1}, {"[kept]", 0}} {
		r.edit("[took]", c.collectors)
		t.Run(c.collectors, func(t *testing.T) {
			if kept := runInside(t, r.load).log.StateKeys(); len(kept) != c.states {
				t.Errorf("kept are %q", kept)
			}
		})
	}
}
