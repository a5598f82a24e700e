package config

import (
	"fmt"
	"maps"
	"net"
	"slices"

	promconfig "github.com/prometheus/common/config"
)

// scrapeFields are the fields of a source of type prometheus.
func scrapeFields() []string {
	return append([]string{"url", "scrape_interval", "scrape_timeout"}, slices.Collect(maps.Keys(clientTable.fields))...)
}

// finishPrometheus checks a source that is scraped. before is how many errors
// there were ahead of it.
func (s *source) finishPrometheus(before int) {
	s.MaxConnections, s.MaxConnectionLifetime, s.MaxResultBytes = 0, 0, 0
	s.selectors = nil
	if !s.has("enable_http2") {
		s.HTTP.EnableHTTP2 = promconfig.DefaultHTTPClientConfig.EnableHTTP2
	}
	if !s.has("follow_redirects") {
		s.HTTP.FollowRedirects = promconfig.DefaultHTTPClientConfig.FollowRedirects
	}
	if s.has("tls_config") {
		s.at("tls_config").tlsConfig(&s.HTTP.TLSConfig)
	}
	s.exclusive(logins...)
	s.takeLogin(s.URL, &s.HTTP)
	if len(s.in.load.errs) == before {
		s.checkClient(&s.HTTP)
	}
	if !s.require("url", "write the URL of the metrics, such as http://127.0.0.1:9363/metrics") || s.URL == nil {
		return
	}
	if s.URL.Path == "" {
		s.URL.Path = "/metrics"
	}
	if s.Instance == "" {
		port := s.URL.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[s.URL.Scheme]
		}
		s.Instance = net.JoinHostPort(s.URL.Hostname(), port)
	}
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
