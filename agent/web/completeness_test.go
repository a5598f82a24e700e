package web

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/agent/collect"
	"sql2metrics/agent/remotewrite"
	"sql2metrics/wal"
)

var update = flag.Bool("update", false, "write golden files")

func TestCompleteness(t *testing.T) {
	query := collect.WorkerBalance{
		Source: "orders", Collector: "shop", Query: "by_status",
		Rows: 10, Cells: 20, Used: 17, Refused: map[string]uint64{"null": 1, "duplicate": 2},
		Mapped: 17, Stale: 1, Resent: 5, Appended: 19, Late: 1, TooLarge: 1, Kept: 2, OnPage: 9,
	}
	off := query
	off.Source, off.Cells, off.Lost = "<other>", 25, 4
	ledger := remotewrite.Ledger{
		Appended: wal.Totals{Samples: 23, Histograms: 1}, Sent: wal.Totals{Samples: 20}, Pending: wal.Totals{Samples: 1, Histograms: 1},
		Dropped: map[remotewrite.Reason]wal.Totals{remotewrite.ReasonEvicted: {Samples: 2}, remotewrite.ReasonRelabel: {}},
	}
	short := ledger
	short.Sent = wal.Totals{Samples: 13}
	good := collect.Balance{
		Workers: []collect.WorkerBalance{query, {Source: "orders", Query: "up", Mapped: 3, Appended: 3}, {Query: "removed"}},
		Log: collect.LogBalance{
			Handed: wal.Totals{Samples: 20, Exemplars: 2}, TakenUp: wal.Totals{Samples: 2},
			Appended: wal.Totals{Samples: 18, Exemplars: 2}, Refused: wal.Totals{Samples: 1}, Waiting: wal.Totals{Samples: 2}, Lost: wal.Totals{Samples: 1},
		},
	}
	bad := good
	bad.Workers = []collect.WorkerBalance{query, off}
	bad.Log.Lost = wal.Totals{Samples: 3}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, sums := range map[string]completeness{
		"completeness":       newCompleteness(good, []remotewrite.Status{{Name: "mimir", Ledger: ledger}}, now),
		"completeness-off":   newCompleteness(bad, []remotewrite.Status{{Name: "mimir", Ledger: ledger}, {Name: "thanos", Ledger: short}}, now),
		"completeness-early": newCompleteness(collect.Balance{}, nil, now),
	} {
		var html, js strings.Builder
		if err := sums.writeHTML(&html); err != nil {
			t.Fatal(err)
		}
		if err := sums.writeJSON(&js); err != nil {
			t.Fatal(err)
		}
		for ending, got := range map[string]string{".html": html.String(), ".json": js.String()} {
			golden := "testdata/" + name + ending
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		}
	}
}
