package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/prometheus/common/model"
)

// scrapeTable are the fields of Prometheus's scrape_configs that say how a page
// is read.
var scrapeTable = table[Scrape]{
	fields: map[string]func(node, *Scrape){
		"scrape_protocols":            func(n node, s *Scrape) { s.Protocols = n.scrapeProtocols() },
		"fallback_scrape_protocol":    func(n node, s *Scrape) { n.scrapeProtocol(&s.FallbackProtocol) },
		"metric_name_escaping_scheme": func(n node, s *Scrape) { n.escapingScheme(&s.EscapingScheme) },
		// There is one scheme, so there is nothing to keep.
		"metric_name_validation_scheme": func(n node, _ *Scrape) { n.validationScheme() },
		"enable_compression":            func(n node, s *Scrape) { n.bool(&s.Compression) },

		"honor_labels":               func(n node, s *Scrape) { n.bool(&s.HonorLabels) },
		"honor_timestamps":           func(n node, s *Scrape) { n.bool(&s.HonorTimestamps) },
		"track_timestamps_staleness": func(n node, s *Scrape) { n.bool(&s.TrackTimestampsStaleness) },
		"metric_relabel_configs":     func(n node, s *Scrape) { s.MetricRelabel = n.relabelConfigs() },

		"scrape_native_histograms":           func(n node, s *Scrape) { n.bool(&s.NativeHistograms) },
		"always_scrape_classic_histograms":   func(n node, s *Scrape) { n.bool(&s.ClassicHistograms) },
		"convert_classic_histograms_to_nhcb": func(n node, s *Scrape) { n.bool(&s.ConvertToNHCB) },

		"sample_limit":                       func(n node, s *Scrape) { n.limit(&s.SampleLimit) },
		"label_limit":                        func(n node, s *Scrape) { n.limit(&s.LabelLimits.Count) },
		"label_name_length_limit":            func(n node, s *Scrape) { n.limit(&s.LabelLimits.NameLength) },
		"label_value_length_limit":           func(n node, s *Scrape) { n.limit(&s.LabelLimits.ValueLength) },
		"native_histogram_bucket_limit":      func(n node, s *Scrape) { n.limit(&s.BucketLimit) },
		"native_histogram_min_bucket_factor": func(n node, s *Scrape) { n.bucketFactor(&s.MinBucketFactor) },
		"extra_scrape_metrics":               func(n node, s *Scrape) { n.bool(&s.ExtraMetrics) },
	},
}

// withScrape adds to the fields of a source those of its scrape.
func withScrape(fields map[string]func(node, *source)) map[string]func(node, *source) {
	return withPart(func(s *source) *Scrape { return &s.scrape }, scrapeTable.fields, fields)
}

// scrapeFields are the fields of a source of type prometheus.
func scrapeFields() []string {
	return slices.Concat([]string{"url", "params", "scrape_interval", "scrape_timeout", "body_size_limit"},
		slices.Collect(maps.Keys(scrapeTable.fields)), slices.Collect(maps.Keys(clientTable.fields)))
}

// discoveries are the words before _sd_configs, with which Prometheus finds
// targets.
var discoveries = []string{
	"aws", "azure", "consul", "digitalocean", "dns", "docker", "dockerswarm", "ec2", "ecs", "elasticache", "eureka", "file", "gce",
	"hetzner", "http", "ionos", "kubernetes", "kuma", "lightsail", "linode", "marathon", "msk", "nerve", "nomad", "oci", "openstack",
	"outscale", "ovhcloud", "puppetdb", "rds", "scaleway", "serverset", "stackit", "triton", "uyuni", "vultr",
}

// refuseTargets returns the others, with a refusal for each field of
// scrape_configs that is about many targets.
func refuseTargets(others map[string]refusal) map[string]refusal {
	const one = "means nothing here: a source is one target"
	inURL := refusal{"is part of url here", "write it there"}
	all := map[string]refusal{
		"job_name":                {"is spelled job here", "write job; the source's own name is name"},
		"metrics_path":            inURL,
		"scheme":                  inURL,
		"static_configs":          {one, "write its address as url, and its labels as labels"},
		"relabel_configs":         {one, "write job, instance and labels"},
		"target_limit":            {one, "delete it"},
		"keep_dropped_targets":    {one, "delete it"},
		"scrape_failure_log_file": {"is not supported: why a scrape failed is in the agent's log", "delete it"},
	}
	for _, by := range discoveries {
		all[by+"_sd_configs"] = refusal{one, "write a source with a url for each target"}
	}
	maps.Copy(all, others)
	return all
}

// refuseOfSources returns the others, with a refusal for what Prometheus takes
// in global for all scrapes, and a source here. What global takes itself is
// among the fields of its table, which come first.
func refuseOfSources(others map[string]refusal) map[string]refusal {
	all := map[string]refusal{
		"body_size_limit": {"belongs to a source", "write it in each source of type prometheus or http_json"},
	}
	for field := range scrapeTable.fields {
		all[field] = refusal{"belongs to a source", "write it in each source of type prometheus"}
	}
	for _, field := range []string{"target_limit", "keep_dropped_targets", "scrape_failure_log_file"} {
		all[field] = refuseTargets(nil)[field]
	}
	maps.Copy(all, others)
	return all
}

// defaultScrape returns what a source without any field of a scrape means.
func defaultScrape() Scrape {
	return Scrape{Compression: true, HonorTimestamps: true, EscapingScheme: model.NoEscaping}
}

// textProtocols are the formats that are asked for by default, most wanted
// first.
var textProtocols = []ScrapeProtocol{OpenMetricsText1_0_0, OpenMetricsText0_0_1, PrometheusText1_0_0, PrometheusText0_0_4}

// finishPrometheus checks a source that is scraped. before is how many errors
// there were ahead of it.
func (s *source) finishPrometheus(before int) {
	s.MaxConnections, s.MaxConnectionLifetime, s.MaxResultBytes = 0, 0, 0
	s.selectors = nil
	s.Scrape = copied(&s.scrape)
	if s.Scrape.Protocols == nil {
		if s.Scrape.NativeHistograms {
			s.Scrape.Protocols = append(s.Scrape.Protocols, PrometheusProto)
		}
		s.Scrape.Protocols = append(s.Scrape.Protocols, textProtocols...)
	}
	s.finishHTTP(before, "/metrics", "write the URL of the metrics, such as http://127.0.0.1:9363/metrics")
	s.addParams()
}

// addParams puts params into the URL.
func (s *source) addParams() {
	if s.URL == nil || len(s.params) == 0 {
		return
	}
	written := s.URL.Query()
	added := url.Values{}
	for _, p := range s.params {
		if written.Has(p.key) {
			p.value.fail(fmt.Sprintf("%q stands in url too", p.key), "keep one of the two")
		}
		for _, item := range p.value.list() {
			var value string
			if item.yaml.Value != "" {
				item.expand(&value)
			} else {
				item.anyText(&value)
			}
			added.Add(p.key, value)
		}
	}
	if s.URL.RawQuery != "" && len(added) > 0 {
		s.URL.RawQuery += "&"
	}
	s.URL.RawQuery += added.Encode()
}

// inheritLimits fills in what global says of samples and labels where the
// source does not, as Prometheus does.
func (s *Scrape) inheritLimits(global layer) {
	inherit := func(into *int, limit written[int]) {
		if *into == 0 {
			*into = limit.value
		}
	}
	inherit(&s.SampleLimit, global.sampleLimit)
	inherit(&s.LabelLimits.Count, global.labelLimit)
	inherit(&s.LabelLimits.NameLength, global.labelNameLimit)
	inherit(&s.LabelLimits.ValueLength, global.labelValueLimit)
}

// finishClocks sets when the source is asked for up, or scraped.
func (s *source) finishClocks(g Global) {
	s.Interval, s.Timeout = g.ScrapeInterval, g.ScrapeTimeout
	if s.interval > 0 {
		s.Interval = s.interval
	}
	s.Timeout = min(s.Timeout, s.Interval)
	if s.timeout > s.Interval {
		s.at("scrape_timeout").fail(fmt.Sprintf("is longer than the scrape interval of %s", prometheusDuration(s.Interval)),
			"make it at most as long as the interval")
	} else if s.timeout > 0 {
		s.Timeout = s.timeout
	}
}

// scrapeProtocol sets *into to a format. Unlike other words, Prometheus takes
// these in one spelling alone.
func (n node) scrapeProtocol(into *ScrapeProtocol) {
	s, ok := n.text()
	known := []string{string(PrometheusProto)}
	for _, p := range textProtocols {
		known = append(known, string(p))
	}
	switch {
	case !ok:
	case !slices.Contains(known, s):
		n.fail(fmt.Sprintf("%q is not known here", s), "write "+orList(known))
	default:
		*into = ScrapeProtocol(s)
	}
}

// scrapeProtocols returns a list of formats, each once.
func (n node) scrapeProtocols() []ScrapeProtocol {
	var all []ScrapeProtocol
	for _, item := range n.list() {
		var p ScrapeProtocol
		switch item.scrapeProtocol(&p); {
		case p == "":
		case slices.Contains(all, p):
			item.fail(fmt.Sprintf("%s is in the list already", p), "delete it")
		default:
			all = append(all, p)
		}
	}
	if !n.isNull() && n.isEmptyList() {
		n.fail("is an empty list", "name a format, or delete the field")
	}
	return all
}

func (n node) escapingScheme(into *model.EscapingScheme) {
	var s string
	oneOf(n, &s, model.AllowUTF8, model.EscapeUnderscores, model.EscapeDots, model.EscapeValues)
	if scheme, err := model.ToEscapingScheme(s); err == nil {
		*into = scheme
	}
}

// validationScheme reports legacy. With it Prometheus loses a whole page to a
// name that the target has not escaped.
func (n node) validationScheme() {
	switch s, ok := n.text(); {
	case !ok, s == "utf8":
	case s == "legacy":
		n.fail("legacy is not supported: names may have any character",
			"delete it and write metric_name_escaping_scheme: underscores, which legacy asks a target for as well")
	default:
		n.fail(fmt.Sprintf("%q is not known here", s), "write utf8, or delete it")
	}
}

func (n node) bucketFactor(into *float64) {
	var factor float64
	if n.number(&factor); factor < 0 {
		n.fail("is below zero", "write a factor above 1, such as 1.1, or 0 for none")
		return
	}
	*into = factor
}
