package servers

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

func TestExporters(t *testing.T) {
	for name, c := range map[string]struct {
		start func(*testing.T) *Exporter
		shows string
	}{
		"node":        {func(t *testing.T) *Exporter { return NodeExporter(t) }, "\nnode_cpu_seconds_total{"},
		"mysqld":      {func(t *testing.T) *Exporter { return MySQLdExporter(t, MySQL(t)) }, "\nmysql_up 1\n"},
		"redis":       {func(t *testing.T) *Exporter { return RedisExporter(t, Redis(t)) }, "\nredis_up 1\n"},
		"pushgateway": {func(t *testing.T) *Exporter { return Pushgateway(t).Exporter }, "\npushgateway_build_info{"},
	} {
		var e *Exporter
		t.Run(name, func(t *testing.T) {
			e = c.start(t)
			for what, down := range map[string]struct{ do, undo func() error }{
				"stop":  {e.Stop, e.Start},
				"pause": {e.Pause, e.Resume},
			} {
				if err := down.do(); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if err := down.undo(); err != nil {
					t.Fatalf("after %s: %v", what, err)
				}
				if _, body := e.Page(t, "text/plain"); !bytes.Contains(body, []byte(c.shows)) {
					t.Errorf("after %s the page lacks %q:\n%s", what, c.shows, body)
				}
			}
		})
		if e == nil {
			continue // it is not installed
		}
		if _, err := os.Stat(e.folder); !os.IsNotExist(err) {
			t.Errorf("%s: the folder is left: %v", name, err)
		}
		if _, _, err := ask(context.Background(), http.MethodGet, e.URL(), nil, nil); err == nil {
			t.Errorf("%s: it still answers", name)
		}
	}
}

func TestPush(t *testing.T) {
	p := Pushgateway(t)
	protobuf := expfmt.NewFormat(expfmt.TypeProtoDelim)
	var body bytes.Buffer
	if err := expfmt.NewEncoder(&body, protobuf).Encode(&dto.MetricFamily{
		Name: proto.String("saved_bytes"), Type: dto.MetricType_GAUGE.Enum(),
		Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(7)}}},
	}); err != nil {
		t.Fatal(err)
	}
	p.Push(t, "job/backup", string(protobuf), body.Bytes())
	p.Push(t, "job/report/instance/db1", "text/plain; version=0.0.4", []byte("rows 3\n"))
	series := func() (shown [2]bool) {
		_, page := p.Page(t, "text/plain")
		return [2]bool{
			bytes.Contains(page, []byte(`saved_bytes{instance="",job="backup"} 7`)),
			bytes.Contains(page, []byte(`rows{instance="db1",job="report"} 3`)),
		}
	}
	if got := series(); got != [2]bool{true, true} {
		t.Errorf("shown after the pushes: %v", got)
	}
	p.Delete(t, "job/backup")
	// The server says yes to the end of a group before it is gone.
	Eventually(t, "the group and no other is gone", func() bool { return series() == [2]bool{false, true} })
}
