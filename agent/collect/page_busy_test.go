package collect

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sql2metrics/sources"
)

// TestCollectingWhilePageIsBuilt holds an answer of 10,000 series up in its
// middle: collection goes on, and the answer shows the round it began with.
func TestCollectingWhilePageIsBuilt(t *testing.T) {
	const many = 10_000
	numbers := func(n int64) (a answer) {
		a.columns = []string{"status", "n"}
		for i := range int64(many) {
			a.rows = append(a.rows, []sources.Value{sources.IntValue(i), sources.IntValue(n)})
		}
		return a
	}
	r := newRig(t, dbSource(), query(orders()), &database{answers: []answer{numbers(1), numbers(2)}})
	r.step(1)
	asked, goOn := make(chan struct{}), make(chan struct{})
	page := NewPage(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		close(asked)
		<-goOn
		return nil, nil
	}), prometheus.NewRegistry())
	page.Show(r.Worker)

	var families []*dto.MetricFamily
	var err error
	gathered := make(chan struct{})
	go func() {
		defer close(gathered)
		families, err = page.Gather()
	}()
	<-asked
	r.step(2)
	if b := booked(r.metrics, bookName{"db", "c", "q"}); b.mapped != 2*many || b.onPage != many {
		t.Errorf("while the page is built, %d samples are collected, and %d series are to be shown, want %d and %d", b.mapped, b.onPage, 2*many, many)
	}
	close(goOn)
	<-gathered
	if err != nil || len(families) != 1 || len(families[0].Metric) != many {
		t.Fatalf("%d families, %v", len(families), err)
	}
	for _, m := range families[0].Metric {
		if v := m.GetGauge().GetValue(); v != 1 {
			t.Fatalf("a series is %v, want that of the first round", v)
		}
	}
}
