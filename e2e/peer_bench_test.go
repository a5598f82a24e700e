package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPrometheusCatchUp is BenchmarkCatchUp with Debian's Prometheus in
// agent mode. It forgets to ship what is in its log when it starts, so it
// scrapes its backlog itself, while the receiver is down; the rate and the CPU
// are those of the time after that, when there is nothing more to scrape.
func BenchmarkPrometheusCatchUp(b *testing.B) {
	for name, delay := range map[string]time.Duration{"loopback": 0, "50ms": 50 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			path := prometheusPath(b)
			var u usage
			for b.Loop() {
				r := startNullReceiver(b, delay)
				r.down.Store(true)
				target := startTarget(b)
				p := startPrometheus(b, path, fmt.Sprintf(`
scrape_configs:
  - job_name: postgres
    scrape_interval: 250ms
    scrape_timeout: 250ms
    static_configs: [{targets: ["%s"]}]
    relabel_configs: [{target_label: instance, replacement: "orders-0:5432"}]
remote_write:
  - url: %s
    metadata_config: {send: false}
`, strings.TrimPrefix(target.URL, "http://"), r.URL))
				const wanted = backlogSamples / backlogSeries
				for target.scrapes.Load() < wanted {
					time.Sleep(time.Millisecond)
				}
				target.down.Store(true)
				time.Sleep(2 * time.Second) // for the last scrape to be in its log

				pid := p.cmd.Process.Pid
				before := procCPU(b, pid)
				r.down.Store(false)
				u.elapsed += r.take(b, backlogSamples)
				u.cpu += procCPU(b, pid) - before
				u.peak = max(u.peak, procField(b, pid, "status", "VmHWM"))
				u.samples += float64(r.samples.Load())
				u.wire += float64(r.bytes.Load())
				p.kill()
			}
			u.report(b)
		})
	}
}

// target is scraped for the series of a backlog.
type target struct {
	*httptest.Server
	scrapes atomic.Int64
	down    atomic.Bool
}

func startTarget(b *testing.B) *target {
	t := &target{}
	var page []byte // scrapes do not overlap
	t.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if t.down.Load() {
			http.Error(w, "the benchmark wants it to be down", http.StatusServiceUnavailable)
			return
		}
		round := int(t.scrapes.Load())
		page = append(page[:0], "# HELP orders_by_status Orders by status.\n# TYPE orders_by_status gauge\n"...)
		for i := range backlogSeries {
			page = fmt.Appendf(page, "orders_by_status{region=\"region-%d\",status=\"status-%d\",team=\"shop\"} ", i%50, i/50)
			page = strconv.AppendFloat(page, counter(i, round), 'g', -1, 64)
			page = append(page, '\n')
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write(page)
		t.scrapes.Add(1)
	}))
	b.Cleanup(t.Close)
	return t
}

// prometheusPath returns where Prometheus is, and logs which version.
func prometheusPath(b *testing.B) string {
	b.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		b.Skip("apt-get install prometheus")
	}
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		b.Fatal(err)
	}
	b.Log(strings.SplitN(string(version), "\n", 2)[0])
	return path
}

// startPrometheus starts one in agent mode and waits until it is ready.
func startPrometheus(b *testing.B, path, config string) *agent {
	b.Helper()
	file := filepath.Join(b.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := run(b, exec.Command(path, "--enable-feature=agent", "--config.file="+file, "--storage.agent.path="+filepath.Join(b.TempDir(), "data"),
		"--web.listen-address="+address, "--log.level=error"))
	p.addr = address
	eventually(b, "Prometheus to be ready", func() error {
		_, err := p.get("/-/ready")
		return err
	})
	return p
}
