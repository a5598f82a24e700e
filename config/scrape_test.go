package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// TestScrapes loads sources of type prometheus.
func TestScrapes(t *testing.T) {
	want := Default()
	want.Global.ScrapeInterval, want.Global.ScrapeTimeout = 20*time.Second, 15*time.Second
	want.Sources = []Source{
		{
			Name: "shortest", Type: TypePrometheus, URL: mustURL("http://127.0.0.1:9363/metrics"), HTTP: promconfig.DefaultHTTPClientConfig,
			Job: "prometheus", Instance: "127.0.0.1:9363", Interval: 20 * time.Second, Timeout: 15 * time.Second,
		},
		{
			Name: "whole", Type: TypePrometheus, URL: mustURL("https://db.example.com/probe?module=db&target=db.example.com&target="),
			HTTP: promconfig.HTTPClientConfig{
				BasicAuth: &promconfig.BasicAuth{Username: "u", Password: "s3cr$t"},
				TLSConfig: promconfig.TLSConfig{
					CAFile: "testdata/good/secrets/ca.pem", CertFile: "testdata/good/secrets/ca.pem", KeyFile: "testdata/good/secrets/ca.pem",
					ServerName: "ch", InsecureSkipVerify: true,
				},
				ProxyConfig: promconfig.ProxyConfig{ProxyURL: promconfig.URL{URL: mustURL("http://proxy:3128")}},
				HTTPHeaders: &promconfig.Headers{Headers: map[string]promconfig.Header{"X-Key": {Secrets: []promconfig.Secret{"s3cr$t"}}}},
			},
			Job: "clickhouse", Instance: "ch-0", Labels: labels.FromStrings("team", "shop"),
			Interval: 5 * time.Second, Timeout: 4 * time.Second, BodySizeLimit: 5 << 20,
			Scrape: &Scrape{
				Protocols:   append([]ScrapeProtocol{PrometheusProto}, textProtocols...),
				HonorLabels: true, NativeHistograms: true, SampleLimit: 5000, LabelLimits: LabelLimits{Count: 20},
				MetricRelabel: []*relabel.Config{{
					SourceLabels: model.LabelNames{"__name__"}, Separator: ";", Regex: relabel.MustNewRegexp("go_.*"),
					Replacement: "$1", Action: relabel.Drop, NameValidationScheme: model.UTF8Validation,
				}},
			},
		},
		{
			Name: "often", Type: TypePrometheus, URL: mustURL("http://[::1]/metrics"),
			HTTP: promconfig.HTTPClientConfig{
				Authorization:   &promconfig.Authorization{Type: "Bearer", Credentials: "s3cr$t"},
				FollowRedirects: true, EnableHTTP2: true,
			},
			Job: "prometheus", Instance: "[::1]:80", Interval: 10 * time.Second, Timeout: 10 * time.Second,
		},
	}
	got, err := Load("testdata/good/scrape.yml", Options{Getenv: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	limits := Scrape{SampleLimit: 5000, LabelLimits: LabelLimits{Count: 30}}
	want.Sources[0].Scrape, want.Sources[2].Scrape = copied(&limits), copied(&limits)
	want = withClocks(want)
	if diff := cmp.Diff(&want, got, asConfigured); diff != "" {
		t.Errorf("configuration differs (-want +got):\n%s", diff)
	}
}
