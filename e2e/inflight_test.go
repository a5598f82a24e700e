package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sql2metrics/e2e/receiver"
)

// TestKilledInFlight kills the agent while Prometheus stores what it is sent
// and loses the answers. The next life sends it again, as it was or relabelled
// otherwise, and nothing is refused for good because of that: not what was in
// flight, and not what is new.
func TestKilledInFlight(t *testing.T) {
	for _, protocol := range []receiver.Message{receiver.V1, receiver.V2} {
		for name, rules := range map[string]string{
			"nothing changed":  "",
			"a series dropped": "\n    write_relabel_configs: [{source_labels: [id], regex: o0007, action: drop}]",
			"a series renamed": "\n    write_relabel_configs: [{source_labels: [id], regex: o0007, target_label: id, replacement: seven}]",
		} {
			t.Run(fmt.Sprintf("%s, %s", protocol, name), func(t *testing.T) {
				t.Parallel()
				killInFlight(t, protocol, rules)
			})
		}
	}
}

func killInFlight(t *testing.T, protocol receiver.Message, rules string) {
	r := receiver.Start(t, receiver.Options{})
	s := newShop(t, 30)
	s.trade(t)
	storage := filepath.Join(t.TempDir(), "data")
	watch := func(rules string) setup {
		return setup{config: s.config(100*time.Millisecond, r.URL()+"\n    protobuf_message: "+string(protocol)+rules), storage: storage}
	}
	a := start(t, watch(""))
	l := follow(t, storage)
	waitForSamples(t, a, 100)
	r.Behave(receiver.StoreThenReset)
	before := r.Attempts()
	eventually(t, "several answers to be lost", func() error {
		if n := r.Attempts() - before; n < 3 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	a.kill()
	r.Behave(receiver.Up)

	a = start(t, watch(rules))
	sent := balance(t, a.metrics(t), "endpoint0")["sent"]
	var now map[string]float64
	eventually(t, "what is new to be sent", func() error {
		if now = balance(t, a.metrics(t), "endpoint0"); now["sent"] < sent+300 {
			return fmt.Errorf("%v samples sent after %v before", now["sent"], sent)
		}
		return nil
	})
	a.stop(t)
	if now["rejected"] > 0 || now["dropped"] > now["relabel"] {
		t.Errorf("samples were refused because of what was sent again: %v", now)
	}

	l.close(t)
	l.checkDeliveries(t, withoutSeries(r.Requests(), `id="seven"`))
	received := r.Samples(t, everything)
	l.mustHave(t, guilty)
	if rules != "" { // of that one, each life has its own
		maps.DeleteFunc(received, func(series string, _ []receiver.Sample) bool {
			return strings.Contains(series, guilty) || strings.Contains(series, `id="seven"`)
		})
		maps.DeleteFunc(l.samples, func(series string, _ []receiver.Sample) bool { return strings.Contains(series, guilty) })
	}
	l.compare(t, received)
}

// withoutSeries leaves a series out of requests.
func withoutSeries(requests []receiver.Request, mark string) []receiver.Request {
	var out []receiver.Request
	for _, r := range requests {
		kept := r
		kept.Series = nil
		for _, s := range r.Series {
			if !strings.Contains(s.Labels, mark) {
				kept.Series = append(kept.Series, s)
			}
		}
		out = append(out, kept)
	}
	return out
}
