package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/compliance/remotewrite/sender"
)

// TestSenderConformance runs the public conformance tests for senders of
// remote write, which let the agent scrape their own exposition.
func TestSenderConformance(t *testing.T) {
	t.Parallel()
	program, err := program()
	if err != nil {
		t.Fatal(err)
	}
	sender.RunTests(t, conforming{program, t.TempDir()}, sender.ComplianceTests())
}

// conforming is the real binary as the conformance tests want a sender.
type conforming struct {
	program string
	folder  string // for what its processes need
}

// Name implements [sender.Sender].
func (c conforming) Name() string { return "sql2metrics" }

// Run implements [sender.Sender]. The agent ships each scrape alone: the first
// request has to hold one sample per series, and enough of them, which its own
// metrics would not be.
func (c conforming) Run(ctx context.Context, o sender.Options) error {
	folder, err := os.MkdirTemp(c.folder, "sender-")
	if err != nil {
		return err
	}
	file := filepath.Join(folder, "config.yml")
	text := fmt.Sprintf(`
global: {scrape_interval: 5s, scrape_timeout: 5s}
self: {enabled: false}
remote_write:
  - name: conformance
    url: %s
    protobuf_message: %s
    queue_config: {batch_send_deadline: 100ms, min_backoff: 100ms, max_backoff: 1s}
sources:
  - {name: target, type: prometheus, job: %s, url: "http://%s/metrics"}
`, o.RemoteWriteEndpointURL, o.RemoteWriteMessage, o.ScrapeTargetJobName, o.ScrapeTargetHostPort)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return sender.RunCommand(ctx, folder, []string{"GORACE=halt_on_error=1"}, c.program, "run",
		"--config.file="+file, "--storage.path="+filepath.Join(folder, "data"), "--web.listen-address=127.0.0.1:0")
}
