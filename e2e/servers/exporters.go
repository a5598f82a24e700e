package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// Exporter is a private process of Debian's that serves an exposition at
// /metrics. Its methods may be called from several goroutines.
type Exporter struct {
	Host string
	Port int

	folder string // holds its files, if it has any; removed at the end
	binary string
	args   []string

	daemon
}

// NodeExporter starts a node_exporter with its default collectors that ends
// with the test.
func NodeExporter(tb testing.TB) *Exporter {
	tb.Helper()
	return startExporter(tb, "prometheus-node-exporter", func(e *Exporter) []string {
		return []string{"--web.listen-address=" + e.Addr(), "--collector.textfile.directory=" + e.folder}
	})
}

// MySQLdExporter starts a mysqld_exporter of a MariaDB server, with the account
// that its manual tells to make, that ends with the test.
func MySQLdExporter(tb testing.TB, m *MariaDB) *Exporter {
	tb.Helper()
	return startExporter(tb, "prometheus-mysqld-exporter", func(e *Exporter) []string {
		m.Exec(tb, "CREATE USER IF NOT EXISTS exporter IDENTIFIED BY 'exporter'",
			"GRANT PROCESS, REPLICATION CLIENT, SLAVE MONITOR, SELECT ON *.* TO exporter")
		file := filepath.Join(e.folder, "my.cnf")
		content := fmt.Sprintf("[client]\nuser = exporter\npassword = exporter\nhost = %s\nport = %d\n", m.Host, m.Port)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
		return []string{"--web.listen-address=" + e.Addr(), "--config.my-cnf=" + file}
	})
}

// RedisExporter starts a redis_exporter of a Redis server that ends with the
// test.
func RedisExporter(tb testing.TB, r *RedisServer) *Exporter {
	tb.Helper()
	return startExporter(tb, "prometheus-redis-exporter", func(e *Exporter) []string {
		return []string{"-web.listen-address=" + e.Addr(), "-redis.addr=redis://" + r.Addr()}
	})
}

// PushgatewayServer is a Pushgateway that forgets its groups when it is
// stopped.
type PushgatewayServer struct{ *Exporter }

// Pushgateway starts a server that ends with the test.
func Pushgateway(tb testing.TB) PushgatewayServer {
	tb.Helper()
	return PushgatewayServer{startExporter(tb, "prometheus-pushgateway", func(e *Exporter) []string {
		return []string{"--web.listen-address=" + e.Addr()}
	})}
}

// Push replaces the metrics of a group by those in body, in the format that
// the Content-Type names. The group is written as in the URL of a push:
// job/backup/instance/db1.
func (p PushgatewayServer) Push(tb testing.TB, group, contentType string, body []byte) {
	tb.Helper()
	p.change(tb, http.MethodPut, group, contentType, body)
}

// Delete removes a group.
func (p PushgatewayServer) Delete(tb testing.TB, group string) {
	tb.Helper()
	p.change(tb, http.MethodDelete, group, "", nil)
}

func (p PushgatewayServer) change(tb testing.TB, method, group, contentType string, body []byte) {
	tb.Helper()
	if _, _, err := ask(tb.Context(), method, p.URL()+"/"+group, http.Header{"Content-Type": {contentType}}, body); err != nil {
		tb.Fatal(err)
	}
}

func startExporter(tb testing.TB, debianPackage string, args func(*Exporter) []string) *Exporter {
	tb.Helper()
	e := &Exporter{Host: "127.0.0.1", binary: Need(tb, debianPackage, "/usr/bin/"+debianPackage)}
	var err error
	if e.Port, err = freePort(); err != nil {
		tb.Fatal(err)
	}
	if e.folder, err = os.MkdirTemp("", "sql2metrics-exporter-"); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(e.Stop(), os.RemoveAll(e.folder)); err != nil {
			tb.Error(err)
		}
	})
	e.args = args(e)
	if err := e.Start(); err != nil {
		tb.Fatal(err)
	}
	return e
}

// Start starts the exporter on the port it always had and returns when it
// serves its page. It does nothing if the exporter runs.
func (e *Exporter) Start() error {
	return e.start(nil, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), startWait)
		defer cancel()
		_, _, err := ask(ctx, http.MethodGet, e.URL(), nil, nil)
		return err
	}, e.binary, e.args...)
}

// Addr returns host:port.
func (e *Exporter) Addr() string { return net.JoinHostPort(e.Host, strconv.Itoa(e.Port)) }

// URL returns the address of the exposition.
func (e *Exporter) URL() string { return "http://" + e.Addr() + "/metrics" }

// Page returns the exposition in the format that accept asks for, and its
// Content-Type.
func (e *Exporter) Page(tb testing.TB, accept string) (contentType string, body []byte) {
	tb.Helper()
	contentType, body, err := ask(tb.Context(), http.MethodGet, e.URL(), http.Header{"Accept": {accept}}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return contentType, body
}

// ask sends a request on a connection of its own and returns the answer to it,
// which is an error unless it is a 2xx.
func ask(ctx context.Context, method, url string, header http.Header, body []byte) (contentType string, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return "", nil, fmt.Errorf("ask an exporter: %w", err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return "", nil, fmt.Errorf("ask an exporter: %w", err)
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(res.Body); err != nil {
		return "", nil, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	if res.StatusCode/100 != 2 {
		return "", nil, fmt.Errorf("%s %s: %s: %s", method, url, res.Status, answer)
	}
	return res.Header.Get("Content-Type"), answer, nil
}
