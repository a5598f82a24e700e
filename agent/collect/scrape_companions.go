package collect

import (
	"errors"

	"github.com/prometheus/common/model"

	"sql2metrics/sources"
	"sql2metrics/wal"
)

// companion is a series that goes with each scrape, as Prometheus describes it.
type companion struct {
	family
	value func(*Scrape) float64
}

// usualCompanions are those that go with each scrape, and with extra_scrape_metrics
// the extra ones.
var (
	usualCompanions = []companion{
		{gauge("up", "targets", "Health of the scrape target. 1 means the target is healthy, 0 if the scrape failed."),
			func(s *Scrape) float64 { return s.health }},
		{gauge("scrape_duration_seconds", "seconds", "Duration of the last scrape in seconds."),
			func(s *Scrape) float64 { return s.took.Seconds() }},
		{gauge("scrape_samples_scraped", "samples", "Number of samples last scraped."),
			func(s *Scrape) float64 { return float64(s.exposition.scraped) }},
		{gauge("scrape_samples_post_metric_relabeling", "samples", "Number of samples remaining after metric relabeling was applied."),
			func(s *Scrape) float64 { return float64(s.exposition.kept) }},
		{gauge("scrape_series_added", "series", "Number of series in the last scrape."),
			func(s *Scrape) float64 { return float64(s.exposition.added) }},
	}
	extraCompanions = []companion{
		{gauge("scrape_timeout_seconds", "seconds", "The configured scrape timeout for a target."),
			func(s *Scrape) float64 { return s.timeout.Seconds() }},
		{gauge("scrape_sample_limit", "samples", "The configured sample limit for a target. Returns zero if there is no limit configured."),
			func(s *Scrape) float64 { return float64(s.rules.SampleLimit) }},
		{gauge("scrape_body_size_bytes", "bytes", "The uncompressed size of the last scrape response, if successful. Scrapes failing because body_size_limit is exceeded report -1, other scrape failures report 0."),
			func(s *Scrape) float64 { return float64(s.size) }},
	}
)

func gauge(name, unit, help string) family {
	return family{name, wal.Metadata{Type: model.MetricTypeGauge, Unit: unit, Help: help}}
}

// bodySize is what scrape_body_size_bytes says of a scrape.
func bodySize(body []byte, err error) int {
	if errors.As(err, new(*sources.BodyLimitError)) {
		return -1
	}
	return len(body)
}

// accompany puts up and the scrape_* series into the round. They are not
// among its values: they are never absent, and the page leaves them to
// whoever scrapes it.
func (s *Scrape) accompany(up bool) {
	s.accompanied.Store(true)
	s.health = 0
	if up {
		s.health = 1
	}
	s.up.Set(s.health)
	s.values.beside = len(s.companions)
	for i, c := range s.companions {
		s.values.round.Samples = append(s.values.round.Samples, wal.Sample{Series: c, T: s.values.stamp, V: s.measures[i](s)})
	}
}
