package web

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/prometheus/common/version"

	"sql2metrics/agent/remotewrite"
	"sql2metrics/wal"
)

//go:embed status.html
var statusHTML string

var statusPage = template.Must(template.New("status").Funcs(template.FuncMap{
	"time": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"age": func(l remotewrite.Ledger, now time.Time) string {
		return fmt.Sprintf("%.0f seconds", l.Age(now).Seconds())
	},
	"counts": counts,
}).Parse(statusHTML))

// writeStatus writes the status page as of now.
func writeStatus(w io.Writer, endpoints []remotewrite.Status, now time.Time) error {
	err := statusPage.Execute(w, struct {
		Version   string
		Now       time.Time
		Endpoints []remotewrite.Status
	}{version.Info(), now, endpoints})
	if err != nil {
		return fmt.Errorf("write the status page: %w", err)
	}
	return nil
}

func counts(n wal.Totals) string {
	return fmt.Sprintf("%d samples, %d histograms, %d exemplars", n.Samples, n.Histograms, n.Exemplars)
}
