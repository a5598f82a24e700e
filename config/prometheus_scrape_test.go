package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	prometheus "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"
)

// scrapeFile is what a file of Prometheus has of scrapes.
type scrapeFile struct {
	Global  yaml.Node   `yaml:"global"`
	Scrapes []yaml.Node `yaml:"scrape_configs"`
}

// TestPrometheusScrapes makes a source of every entry of scrape_configs in
// Prometheus's own testdata, and in a file that uses all fields, less what
// finds its targets. What both take means the same, what is refused is so by a
// golden message, and nothing is taken that Prometheus refuses.
func TestPrometheusScrapes(t *testing.T) {
	var verdicts strings.Builder
	files := append(prometheusFiles(t, "config/testdata/*.yml"), "testdata/prometheus/scrapes.yml")
	compared := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var f scrapeFile
		if err := yaml.Unmarshal(data, &f); err != nil {
			continue // one of the files whose YAML is bad
		}
		for i := range f.Scrapes {
			name := fmt.Sprintf("%s[%d]", filepath.Base(file), i)
			ours, theirs := pasteScrape(t, &f.Global, &f.Scrapes[i])
			p, refusedByThem := prometheus.LoadFile(theirs, true, promslog.NewNopLogger())
			c, err := Load(ours, Options{Getenv: testEnv})
			if err == nil {
				if refusedByThem != nil {
					t.Errorf("%s is taken here, and refused by Prometheus: %v", name, refusedByThem)
					continue
				}
				compared++
				t.Run(name, func(t *testing.T) { sameScrape(t, theirs, p.ScrapeConfigs[0], c.Sources[0]) })
				continue
			}
			var refused Errors
			if !errors.As(err, &refused) {
				t.Fatal(err)
			}
			fmt.Fprintf(&verdicts, "%s, Prometheus takes it: %v\n", name, refusedByThem == nil)
			for _, e := range refused {
				fmt.Fprintf(&verdicts, "  %s: %s; %s\n", e.Field, e.Problem, e.Remedy)
			}
		}
	}
	golden(t, "testdata/prometheus/scrapes.golden", verdicts.String())
	if compared < 100 {
		t.Errorf("compared %d scrapes, fewer than there are", compared)
	}
}

// discovered tells which fields of scrape_configs find targets and label them.
func discovered(field string) bool {
	return strings.HasSuffix(field, "_sd_configs") || field == "static_configs" || field == "relabel_configs"
}

// pasteScrape writes an entry of scrape_configs as a source of ours and as it
// is, both in one folder, and returns their paths.
func pasteScrape(t *testing.T, global, scrape *yaml.Node) (ours, theirs string) {
	t.Helper()
	has := func(mapping *yaml.Node, field, otherwise string) string {
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if mapping.Content[i].Value == field {
				return mapping.Content[i+1].Value
			}
		}
		return otherwise
	}
	marshal := func(text any) string {
		out, err := yaml.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	shared := without(global, func(field string) bool {
		_, ours := globalTable.fields[field]
		return !ours || field == "external_labels" || field == "scrape_interval"
	})
	shared.Content = append(shared.Content, texts("scrape_interval", has(global, "scrape_interval", "1m"))...)

	source := without(scrape, func(field string) bool {
		return discovered(field) || slices.Contains([]string{"job_name", "scheme", "metrics_path"}, field)
	})
	job := has(scrape, "job_name", "j")
	source.Content = append(source.Content, texts("name", "s", "type", "prometheus", "job", job,
		"url", has(scrape, "scheme", "http")+"://target:9100"+has(scrape, "metrics_path", ""))...)
	ours = place(t, marshal(map[string]any{"global": shared, "sources": []any{source}}))

	theirs = filepath.Join(filepath.Dir(ours), "theirs.yml")
	targets := without(scrape, func(field string) bool { return discovered(field) || field == "job_name" })
	targets.Content = append(targets.Content, texts("job_name", job)...)
	text := marshal(map[string]any{"global": shared, "scrape_configs": []any{targets}})
	if err := os.WriteFile(theirs, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// without returns a copy of a mapping that lacks some of its fields.
func without(mapping *yaml.Node, drop func(field string) bool) *yaml.Node {
	left := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if !drop(mapping.Content[i].Value) {
			left.Content = append(left.Content, mapping.Content[i:i+2]...)
		}
	}
	return left
}

func texts(words ...string) []*yaml.Node {
	var all []*yaml.Node
	for _, word := range words {
		all = append(all, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: word})
	}
	return all
}

// sameScrape compares a scrape as we and as Prometheus read it from the folder
// of pasted.
func sameScrape(t *testing.T, pasted string, theirs *prometheus.ScrapeConfig, ours Source) {
	t.Helper()
	type meaning struct {
		URL, Job          string
		Interval, Timeout time.Duration
		HTTP              promconfig.HTTPClientConfig
		BodySizeLimit     int64
		Scrape            Scrape
		Relabel           []*relabel.Config
	}
	got := meaning{
		URL: ours.URL.String(), Job: ours.Job, Interval: ours.Interval, Timeout: ours.Timeout, HTTP: ours.HTTP,
		BodySizeLimit: ours.BodySizeLimit, Scrape: *ours.Scrape,
	}
	target := *ours.URL
	target.Scheme, target.Path, target.RawQuery = theirs.Scheme, theirs.MetricsPath, theirs.Params.Encode()
	escaping, err := prometheus.ToEscapingScheme(theirs.MetricNameEscapingScheme, theirs.MetricNameValidationScheme)
	if err != nil {
		t.Fatal(err)
	}
	want := meaning{
		URL: target.String(), Job: theirs.JobName, Interval: time.Duration(theirs.ScrapeInterval), Timeout: time.Duration(theirs.ScrapeTimeout),
		HTTP: theirs.HTTPClientConfig, BodySizeLimit: int64(theirs.BodySizeLimit),
		Scrape: Scrape{
			FallbackProtocol: ScrapeProtocol(theirs.ScrapeFallbackProtocol), EscapingScheme: escaping, Compression: theirs.EnableCompression,
			HonorLabels: theirs.HonorLabels, HonorTimestamps: theirs.HonorTimestamps, TrackTimestampsStaleness: theirs.TrackTimestampsStaleness,
			MetricRelabel: theirs.MetricRelabelConfigs, NativeHistograms: theirs.ScrapeNativeHistogramsEnabled(),
			ClassicHistograms: theirs.AlwaysScrapeClassicHistogramsEnabled(), ConvertToNHCB: theirs.ConvertClassicHistogramsToNHCBEnabled(),
			SampleLimit: int(theirs.SampleLimit),
			LabelLimits: LabelLimits{
				Count: int(theirs.LabelLimit), NameLength: int(theirs.LabelNameLengthLimit), ValueLength: int(theirs.LabelValueLengthLimit),
			},
			BucketLimit: int(theirs.NativeHistogramBucketLimit), MinBucketFactor: theirs.NativeHistogramMinBucketFactor,
			ExtraMetrics: theirs.ExtraScrapeMetricsEnabled(),
		},
	}
	for _, p := range theirs.ScrapeProtocols {
		want.Scrape.Protocols = append(want.Scrape.Protocols, ScrapeProtocol(p))
	}
	if want.BodySizeLimit == 0 {
		want.BodySizeLimit = defaultBodySizeLimit // Prometheus has none
	}
	if o := want.HTTP.OAuth2; o != nil {
		// The one name that Prometheus does not join with the folder of the file.
		o.ClientCertificateKeyFile = promconfig.JoinDir(filepath.Dir(pasted), o.ClientCertificateKeyFile)
	}
	if diff := cmp.Diff(want, got, asConfigured); diff != "" {
		t.Errorf("the scrape means something else here (-Prometheus +sql2metrics):\n%s", diff)
	}
}

// TestPrometheusFormats: the formats and the schemes are all there are.
func TestPrometheusFormats(t *testing.T) {
	for protocol := range prometheus.ScrapeProtocolsHeaders {
		known := slices.Contains(append(textProtocols, PrometheusProto), ScrapeProtocol(protocol))
		if experimental := protocol == prometheus.OpenMetricsText2_0_0; known == experimental {
			t.Errorf("%s is known: %v", protocol, known)
		}
	}
	if defaultScrape().EscapingScheme != model.NoEscaping || prometheus.DefaultGlobalConfig.MetricNameEscapingScheme != model.AllowUTF8 {
		t.Error("the default escaping is not Prometheus's")
	}
}

// TestPrometheusDiscoveries: each way in which Prometheus finds targets is
// refused by its name.
func TestPrometheusDiscoveries(t *testing.T) {
	name := regexp.MustCompile(`SDConfig\) Name\(\) string +\{ return "(\w+)" \}`)
	found := 0
	for _, file := range prometheusFiles(t, "discovery/*/*.go") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range name.FindAllSubmatch(text, -1) {
			found++
			if !slices.Contains(discoveries, string(match[1])) {
				t.Errorf("%s_sd_configs is not refused", match[1])
			}
		}
	}
	if found < 25 {
		t.Errorf("found %d ways, fewer than there are", found)
	}
}
