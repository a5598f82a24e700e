package web

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/agent/remotewrite"
	"sql2metrics/wal"
)

// rows are the rows of the page's tables as a reader sees them.
func rows(t *testing.T, endpoints []remotewrite.Status, now time.Time) (rows []string) {
	t.Helper()
	var page strings.Builder
	if err := writeStatus(&page, endpoints, now); err != nil {
		t.Fatal(err)
	}
	tag := regexp.MustCompile(`<[^>]*>`)
	for line := range strings.Lines(page.String()) {
		if strings.HasPrefix(line, "<tr>") || strings.HasPrefix(line, "<h3>") {
			line = strings.ReplaceAll(strings.TrimSpace(line), "</th>", ": ")
			rows = append(rows, tag.ReplaceAllString(line, ""))
		}
	}
	return rows
}

func TestStatusPage(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	got := rows(t, []remotewrite.Status{
		{
			Name: "mimir", Address: "https://mimir:8080", State: remotewrite.EndpointThrottled, Since: now.Add(-time.Hour),
			Words: "429 Too Many Requests: <script>alert(1)</script>",
			Ledger: remotewrite.Ledger{
				Sent:    wal.Totals{Samples: 100, Exemplars: 1},
				Pending: wal.Totals{Samples: 20, Histograms: 3}, PendingBytes: 4096, Oldest: now.Add(-90 * time.Second),
				Unconfirmed: wal.Totals{Samples: 2},
				Dropped: map[remotewrite.Reason]wal.Totals{
					remotewrite.ReasonRelabel: {}, remotewrite.ReasonRejected: {Samples: 7}, remotewrite.ReasonEvicted: {Histograms: 1},
				},
				Protocol: "2.0",
			},
			Refusal: remotewrite.Refusal{
				Time: now.Add(-time.Minute), Reason: remotewrite.ReasonRejected, Unconfirmed: true, Lost: wal.Totals{Samples: 7},
				Words: "400 Bad Request: out of order", Do: "open the window",
			},
		},
		{
			Name: "thanos", Address: "http://thanos", State: remotewrite.EndpointMisconfigured, Since: now,
			Words: "401 Unauthorized", Do: "check basic_auth", Ledger: remotewrite.Ledger{Protocol: "1.0"},
		},
	}, now)
	want := []string{
		"mimir",
		"Address: https://mimir:8080",
		"State: throttled since 2026-03-01T11:00:00Z",
		"Last answer: 429 Too Many Requests: &lt;script&gt;alert(1)&lt;/script&gt;",
		"Backlog: 20 samples, 3 histograms, 0 exemplars, 4096 bytes, 90 seconds",
		"Sent: 100 samples, 0 histograms, 1 exemplars",
		"Unconfirmed: 2 samples, 0 histograms, 0 exemplars",
		"Dropped, evicted: 0 samples, 1 histograms, 0 exemplars",
		"Dropped, rejected: 7 samples, 0 histograms, 0 exemplars",
		"Last refusal: 7 samples, 0 histograms, 0 exemplars at 2026-03-01T11:59:00Z, rejected, counted as unconfirmed",
		"Its answer: 400 Bad Request: out of order",
		"What to do: open the window",
		"Protocol: 2.0",
		"thanos",
		"Address: http://thanos",
		"State: misconfigured since 2026-03-01T12:00:00Z",
		"Last answer: 401 Unauthorized",
		"What to do: check basic_auth",
		"Backlog: 0 samples, 0 histograms, 0 exemplars, 0 bytes, 0 seconds",
		"Sent: 0 samples, 0 histograms, 0 exemplars",
		"Unconfirmed: 0 samples, 0 histograms, 0 exemplars",
		"Protocol: 1.0",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the page (-want +got):\n%s", d)
	}
}
