package web

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"sql2metrics/agent/collect"
	"sql2metrics/agent/remotewrite"
	"sql2metrics/wal"
)

//go:embed completeness.html
var completenessHTML string

var completenessPage = template.Must(template.New("completeness").Funcs(template.FuncMap{
	"time":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"counts":  counts,
	"reasons": refusals,
	"drops":   drops,
	"verdict": verdict,
}).Parse(completenessHTML))

// completeness is what the page of that name shows: every equation from rows
// to endpoints, with its verdict.
type completeness struct {
	Time      time.Time         `json:"time"`
	AddsUp    bool              `json:"adds_up"` // all of it
	Workers   []workerSums      `json:"workers"`
	Log       logSums           `json:"log"`
	Endpoints []endpointBalance `json:"endpoints"`
}

type workerSums struct {
	collect.WorkerBalance
	CellsOff   int64 `json:"cells_off"`
	SamplesOff int64 `json:"samples_off"`
}

type logSums struct {
	collect.LogBalance
	Off int64 `json:"off"`
}

// endpointBalance is the ledger of an endpoint. It begins with the endpoint's
// cursor, over restarts, and is of a moment of its own.
type endpointBalance struct {
	Name        string                            `json:"name"`
	Appended    wal.Totals                        `json:"appended"`
	Sent        wal.Totals                        `json:"sent"`
	Dropped     map[remotewrite.Reason]wal.Totals `json:"dropped"` // by those reasons that occurred
	Unconfirmed wal.Totals                        `json:"unconfirmed"`
	Pending     wal.Totals                        `json:"pending"`
	Off         int64                             `json:"off"`
}

func newCompleteness(b collect.Balance, endpoints []remotewrite.Status, now time.Time) completeness {
	c := completeness{Time: now, Log: logSums{b.Log, b.Log.Off()}, Workers: []workerSums{}, Endpoints: []endpointBalance{}}
	c.AddsUp = c.Log.Off == 0
	for _, w := range b.Workers {
		sums := workerSums{w, w.CellsOff(), w.SamplesOff()}
		c.AddsUp = c.AddsUp && sums.CellsOff == 0 && sums.SamplesOff == 0
		c.Workers = append(c.Workers, sums)
	}
	for _, s := range endpoints {
		e := balanceOf(s)
		c.AddsUp = c.AddsUp && e.Off == 0
		c.Endpoints = append(c.Endpoints, e)
	}
	return c
}

func balanceOf(s remotewrite.Status) endpointBalance {
	l := &s.Ledger
	e := endpointBalance{
		Name: s.Name, Appended: l.Appended, Sent: l.Sent, Unconfirmed: l.Unconfirmed, Pending: l.Pending,
		Dropped: map[remotewrite.Reason]wal.Totals{},
	}
	all := l.Sent.Add(l.Unconfirmed).Add(l.Pending)
	for why, n := range l.Dropped {
		all = all.Add(n)
		if !n.IsZero() {
			e.Dropped[why] = n
		}
	}
	e.Off = l.Appended.Apart(all)
	return e
}

func (c *completeness) writeHTML(w io.Writer) error {
	if err := completenessPage.Execute(w, c); err != nil {
		return fmt.Errorf("write the completeness page: %w", err)
	}
	return nil
}

func (c *completeness) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(c); err != nil {
		return fmt.Errorf("write the completeness page: %w", err)
	}
	return nil
}

// verdict is what the page says of an equation.
func verdict(off int64) template.HTML {
	if off == 0 {
		return `<b class="good">adds up</b>`
	}
	return template.HTML(fmt.Sprintf(`<b class="bad">off by %d</b>`, off))
}

// refusals are the reasons of refused cells, in order.
func refusals(by map[string]uint64) string {
	var all []string
	for _, why := range slices.Sorted(maps.Keys(by)) {
		all = append(all, fmt.Sprintf("%s %d", why, by[why]))
	}
	if len(all) == 0 {
		return "0"
	}
	return strings.Join(all, ", ")
}

// drops are the reasons of what an endpoint will not get, in order.
func drops(by map[remotewrite.Reason]wal.Totals) string {
	var all []string
	for _, why := range slices.Sorted(maps.Keys(by)) {
		all = append(all, fmt.Sprintf("%s: %s", why, counts(by[why])))
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, "; ")
}
