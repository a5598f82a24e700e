package collect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Two workers that have one series leave together: it gets one stale marker, and
// the log is not asked to take another.
func TestBuryOnce(t *testing.T) {
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{orderRows(3, "open")}})
	twin := r.successor(query(orders()), &database{answers: []answer{orderRows(4, "open", "paid")}})
	r.step(1)
	r.now = t0.Add(2 * time.Second)
	if err := twin.Step(t.Context(), r.now); err != nil {
		t.Fatal(err)
	}
	var ups []Runner
	for range 2 {
		ups = append(ups, NewUp(UpOptions{
			Source: dbSource(), Client: r.Worker.client, Health: r.health,
			Log: r.log, Metrics: r.metrics, Logger: r.logger, Clock: func() time.Time { return r.now },
		}))
	}
	r.now = t0.Add(3 * time.Second)
	if err := (Succession{Entering: ups[:1]}).Carry(r.now); err != nil {
		t.Fatal(err)
	}
	r.now = t0.Add(4 * time.Second)
	if err := (Succession{Entering: ups[1:]}).Carry(r.now); err != nil {
		t.Fatal(err)
	}
	newSamples(t, r.reader)
	r.now = t0.Add(5 * time.Second)
	if err := (Succession{Leaving: append([]Runner{r.Worker, twin}, ups...)}).Carry(r.now); err != nil {
		t.Fatal(err)
	}
	want := `orders{instance="h:1", job="pg", status="open", team="shop"} stale @5.001
orders{instance="h:1", job="pg", status="paid", team="shop"} stale @5.001
up{instance="h:1", job="pg", team="shop"} stale @5.001
`
	if d := cmp.Diff(want, newSamples(t, r.reader)); d != "" {
		t.Errorf("the log gets (-want +got):\n%s", d)
	}
	if n := r.refusedCount("time") + float64(booked(r.metrics, bookName{r.source, "", bookUp}).refusedFor("time")); n > 0 {
		t.Errorf("the log refuses %v samples", n)
	}
	for _, up := range ups {
		up.Close()
	}
	addsUp(t, r.metrics)
}
