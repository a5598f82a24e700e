package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// pageListener gives an agent connections in memory, which is where a clock of
// synctest's can see that nothing happens on them.
type pageListener struct {
	connections chan net.Conn
	closed      chan struct{}
}

func newPageListener() *pageListener {
	return &pageListener{make(chan net.Conn), make(chan struct{})}
}

// Accept implements [net.Listener].
func (l *pageListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.connections:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *pageListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

// Addr implements [net.Listener].
func (l *pageListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9399} }

func (l *pageListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, its := net.Pipe()
	select {
	case l.connections <- its:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// get returns a page of the agent, which has to be there at any time.
func (s *soak) get(path string) string {
	s.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.page.dial}}
	resp, err := client.Get("http://agent" + path)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.Fatalf("GET %s: %s %v: %s", path, resp.Status, err, body)
	}
	return string(body)
}

func (s *soak) metrics() map[string]*dto.MetricFamily {
	s.Helper()
	if sums := s.get("/debug/completeness?format=json"); !strings.Contains(sums, `"adds_up": true`) {
		s.Errorf("it does not add up: %s", sums)
	}
	return familiesOf(s.T, s.get("/metrics"))
}

// familiesOf returns what a page has.
func familiesOf(t *testing.T, page string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// soakAccounts is what a page says about the samples of an endpoint.
type soakAccounts struct {
	appended, sent, dropped, evicted, unconfirmed, pending float64
}

// accountsOf returns the accounts of an endpoint; without a name, of all.
func accountsOf(page map[string]*dto.MetricFamily, endpoint ...string) soakAccounts {
	sum := func(name string, labels ...string) float64 {
		return sumOf(page["sql2metrics_remote_write_samples_"+name], append(labels, endpoint...)...)
	}
	return soakAccounts{
		appended: sum("appended_total"), sent: sum("sent_total"), unconfirmed: sum("unconfirmed_total"),
		dropped: sum("dropped_total"), evicted: sum("dropped_total", "evicted"), pending: sum("pending"),
	}
}

// sumOf adds up the metrics of a family that have all these label values.
func sumOf(family *dto.MetricFamily, values ...string) (sum float64) {
	for _, m := range family.GetMetric() {
		has := func(value string) bool {
			return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == value })
		}
		if !slices.ContainsFunc(values, func(value string) bool { return !has(value) }) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}
