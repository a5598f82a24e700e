package agent

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"

	"sql2metrics/config"
)

// soakChoices are what the reloads of a soak change.
type soakChoices struct {
	help     int
	amount   bool // a metric more
	often    bool // every half minute
	hasty    bool // the endpoints send sooner
	elsewhen bool // another source
	broken   bool // the file
}

func anySoakChoices(rng *rand.Rand) soakChoices {
	either := func() bool { return rng.IntN(2) == 0 }
	return soakChoices{rng.IntN(100), either(), either(), either(), either(), rng.IntN(8) == 0}
}

// write writes a configuration with these choices.
func (s *soak) write(c soakChoices) {
	s.Helper()
	text := fmt.Sprintf(`
global: {scrape_interval: %s, scrape_timeout: 5s}
self: {interval: 5m, instance: "agent:9399"}
storage: {fsync_interval: 30s}
remote_write:
  - {url: %[2]s, name: steady, queue_config: {batch_send_deadline: %[4]s}}
  - {url: %[3]s, name: moody, queue_config: {batch_send_deadline: %[4]s}}
sources:
  - {name: shop, type: sqlite, path: shop.db, collectors: [shop]}
  - {name: %[5]s, type: sqlite, path: gone.db, collectors: [shop]}
collectors:
  - collector_name: shop
    queries: [{query_name: orders, query: "SELECT id, n, n * 0.37 AS amount FROM orders"}]
    metrics:
      - {metric_name: orders, type: gauge, help: Orders %[6]d., key_labels: [id], values: [n], query_ref: orders}
`, pick(c.often, "30s", "1m"), s.steady.URL, s.moody.URL, pick(c.hasty, "1s", "5s"), pick(c.elsewhen, "away", "gone"), c.help)
	if c.amount {
		text += "      - {metric_name: orders_amount, type: gauge, help: Money., key_labels: [id], values: [amount], query_ref: orders}\n"
	}
	if c.broken {
		text += "nonsense: {"
	}
	writeConfig(s, s.file, text)
}

func (s *soak) load() (*config.Config, error) {
	c, err := config.Load(s.file, config.Options{StoragePath: filepath.Join(filepath.Dir(s.file), "log")})
	if err == nil {
		c.Storage.MaxBytes = 128 << 10 // less than configurations may ask for
	}
	return c, err
}

// reload has the agent take up these choices.
func (s *soak) reload(c soakChoices) {
	s.Helper()
	s.write(c)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.page.dial}}
	resp, err := client.Post("http://agent/-/reload", "", nil)
	if err != nil {
		s.Fatal(err)
	}
	_ = resp.Body.Close()
	if want := pick(c.broken, http.StatusInternalServerError, http.StatusOK); resp.StatusCode != want {
		s.Fatalf("a reload answers %s, want %d: %+v", resp.Status, want, c)
	}
	if !c.broken {
		if s.config, err = s.load(); err != nil {
			s.Fatal(err)
		}
	}
}
