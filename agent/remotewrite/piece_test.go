package remotewrite

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// TestHalvesAreTheWhole divides random requests to the end, and puts what the
// pieces hold, in the order they are sent, together again.
func TestHalvesAreTheWhole(t *testing.T) {
	for seed := range uint64(100) {
		_, frames := randomWindow(rand.New(rand.NewPCG(seed, 1)))
		w, table := &window{}, newTable(labels.EmptyLabels(), nil)
		w.reset(table)
		for i := range frames {
			w.add(&frames[i], table)
		}
		w.cut(cutting{Limit: 100})
		var e encoder
		// content lists the points and exemplars of a piece by series.
		content := func(into map[string][]string, p *piece) {
			var m writev2.Request
			if err := m.Unmarshal(e.append(nil, config.ProtocolV2, w, p)); err != nil {
				t.Fatal(err)
			}
			b := labels.NewScratchBuilder(0)
			for _, ts := range m.Timeseries {
				lset, err := ts.ToLabels(&b, m.Symbols)
				if err != nil {
					t.Fatal(err)
				}
				key := lset.String() + " "
				for _, s := range ts.Samples {
					into[key+"samples"] = append(into[key+"samples"], s.String())
				}
				for _, h := range ts.Histograms {
					into[key+"histograms"] = append(into[key+"histograms"], h.String())
				}
				for _, x := range ts.Exemplars {
					x, err := x.ToExemplar(&b, m.Symbols)
					if err != nil {
						t.Fatal(err)
					}
					into[key+"exemplars"] = append(into[key+"exemplars"], fmt.Sprint(x))
				}
			}
		}
		for i := range w.requests {
			r := request{piece: w.requests[i].piece}
			want, got := map[string][]string{}, map[string][]string{}
			content(want, &r.piece)
			r.doubt = true
			var sum wal.Totals
			for p := r.next(); ; p = r.next() {
				if first, second, ok := w.halve(*p); ok {
					if first.points() == 0 || second.points() == 0 || !first.doubt || !second.doubt {
						t.Fatalf("seed %d: a half is %+v, the other %+v", seed, first, second)
					}
					r.divide(first, second)
					continue
				}
				if p.points() > 2 || p.counts != countMembers(w.members(p)) {
					t.Fatalf("seed %d: a piece of %d points cannot be divided", seed, p.points())
				}
				sum = sum.Add(p.counts)
				content(got, p)
				if len(r.open) <= 1 {
					break
				}
				r.open = r.open[:len(r.open)-1]
			}
			if sum != r.counts {
				t.Errorf("seed %d: the pieces have %+v, and the request %+v", seed, sum, r.counts)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("seed %d: the pieces together (-want +got):\n%s", seed, d)
			}
		}
	}
}
