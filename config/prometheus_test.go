package config

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/promslog"
	prometheus "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/sigv4"
	"go.yaml.in/yaml/v3"
)

// TestPrometheusFiles loads every remote_write block of the good files in
// Prometheus's own testdata, and of a file that uses all fields. What is
// accepted means what Prometheus reads; what is not is refused by a golden
// message.
func TestPrometheusFiles(t *testing.T) {
	theirs := prometheusFiles(t, "config/testdata/*.good.yml")
	var verdicts strings.Builder
	for _, file := range append(theirs, "testdata/prometheus/blocks.yml") {
		for i, block := range remoteWriteBlocks(t, file) {
			name := fmt.Sprintf("%s[%d]", filepath.Base(file), i)
			pasted := paste(t, &block)
			c, err := Load(pasted, Options{Getenv: testEnv})
			if err == nil {
				fmt.Fprintf(&verdicts, "%s: accepted\n", name)
				t.Run(name, func(t *testing.T) { sameMeaning(t, &block, pasted, c.RemoteWrite[0]) })
				continue
			}
			var refused Errors
			if !errors.As(err, &refused) {
				t.Fatal(err)
			}
			fmt.Fprintf(&verdicts, "%s: refused\n", name)
			for _, e := range refused {
				fmt.Fprintf(&verdicts, "  %s: %s; %s\n", e.Field, e.Problem, e.Remedy)
			}
		}
	}
	golden(t, "testdata/prometheus/verdicts.golden", verdicts.String())
}

// prometheusFiles returns the files of Prometheus's own sources that match.
func prometheusFiles(t *testing.T, pattern string) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatalf("find the module of Prometheus: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no file of Prometheus matches %s: %v", pattern, err)
	}
	return files
}

// remoteWriteBlocks returns the entries of remote_write in a file.
func remoteWriteBlocks(t *testing.T, file string) []yaml.Node {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		RemoteWrite []yaml.Node `yaml:"remote_write"`
	}
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return doc.RemoteWrite
}

// paste writes a configuration of one block and returns its path.
func paste(t *testing.T, block *yaml.Node) string {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{"remote_write": []any{block}})
	if err != nil {
		t.Fatal(err)
	}
	return place(t, string(text))
}

// place writes a configuration, and the files that it names, into a folder of
// their own and returns its path.
func place(t *testing.T, text string) string {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	dir := t.TempDir()
	for _, name := range append(fileNames(&doc), "placed.yml") {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "placed.yml")
}

// fileNames returns the names of files anywhere in a block.
func fileNames(n *yaml.Node) []string {
	var names []string
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			switch key := n.Content[i-1].Value; {
			case strings.HasSuffix(key, "_file"):
				names = append(names, c.Value)
			case key == "files":
				for _, item := range c.Content {
					names = append(names, item.Value)
				}
			}
		}
		names = append(names, fileNames(c)...)
	}
	return names
}

// sameMeaning compares a block as we and as Prometheus read it from the file
// pasted. Defaults that differ on purpose are compared only where the block has
// the field.
func sameMeaning(t *testing.T, block *yaml.Node, pasted string, ours RemoteWrite) {
	t.Helper()
	p, err := prometheus.LoadFile(pasted, true, promslog.NewNopLogger())
	if err != nil {
		t.Fatalf("Prometheus does not take the block: %v", err)
	}
	theirs := p.RemoteWriteConfigs[0]
	var written struct {
		Exemplars  *bool          `yaml:"send_exemplars"`
		Histograms *bool          `yaml:"send_native_histograms"`
		Queue      map[string]any `yaml:"queue_config"`
	}
	if err := block.Decode(&written); err != nil {
		t.Fatal(err)
	}
	type meaning struct {
		URL, Name, Protocol   string
		Timeout               time.Duration
		Headers               map[string]string
		Relabel               []*relabel.Config
		HTTP                  promconfig.HTTPClientConfig
		SigV4                 *sigv4.SigV4Config
		Exemplars, Histograms bool
		Metadata              MetadataConfig
		Queue                 map[string]any
	}
	got := meaning{
		URL: ours.URL.String(), Name: ours.Name, Protocol: string(ours.Protocol), Timeout: ours.RemoteTimeout, Relabel: ours.WriteRelabel,
		HTTP: ours.HTTP, SigV4: ours.SigV4, Exemplars: ours.SendExemplars, Histograms: ours.SendNativeHistograms, Metadata: ours.MetadataConfig,
		Headers: map[string]string{},
		Queue: map[string]any{
			"max_shards": ours.Queue.MaxShards, "max_samples_per_send": ours.Queue.MaxSamplesPerSend,
			"batch_send_deadline": ours.Queue.BatchSendDeadline, "min_backoff": ours.Queue.MinBackoff, "max_backoff": ours.Queue.MaxBackoff,
			"sample_age_limit": ours.Queue.SampleAgeLimit, "retry_on_http_429": true,
		},
	}
	for name, value := range ours.Headers {
		got.Headers[name] = value.Reveal()
	}
	q := theirs.QueueConfig
	want := meaning{
		URL: theirs.URL.String(), Name: theirs.Name, Protocol: string(theirs.ProtobufMessage), Timeout: time.Duration(theirs.RemoteTimeout),
		Relabel: theirs.WriteRelabelConfigs, HTTP: theirs.HTTPClientConfig, SigV4: theirs.SigV4Config,
		Exemplars: theirs.SendExemplars, Histograms: theirs.SendNativeHistograms, Headers: theirs.Headers,
		Metadata: MetadataConfig{
			Send: theirs.MetadataConfig.Send, SendInterval: time.Duration(theirs.MetadataConfig.SendInterval),
			MaxSamplesPerSend: theirs.MetadataConfig.MaxSamplesPerSend,
		},
		Queue: map[string]any{
			"max_shards": q.MaxShards, "max_samples_per_send": q.MaxSamplesPerSend,
			"batch_send_deadline": time.Duration(q.BatchSendDeadline), "min_backoff": time.Duration(q.MinBackoff), "max_backoff": time.Duration(q.MaxBackoff),
			"sample_age_limit": time.Duration(q.SampleAgeLimit), "retry_on_http_429": q.RetryOnRateLimit,
		},
	}
	if theirs.Name == "" {
		want.Name = defaultName(theirs.URL.URL)
	}
	if ours.Protocol == ProtocolAuto {
		want.Protocol = ""
	}
	want.HTTP.FollowRedirects = false
	if o := want.HTTP.OAuth2; o != nil {
		// The one name that Prometheus does not join with the folder of the file.
		o.ClientCertificateKeyFile = promconfig.JoinDir(filepath.Dir(pasted), o.ClientCertificateKeyFile)
	}
	if written.Exemplars == nil {
		want.Exemplars = true
	}
	if written.Histograms == nil {
		want.Histograms = true
	}
	for field := range got.Queue {
		if _, has := written.Queue[field]; !has {
			delete(got.Queue, field)
			delete(want.Queue, field)
		}
	}
	if diff := cmp.Diff(want, got, asConfigured); diff != "" {
		t.Errorf("the block means something else here (-Prometheus +sql2metrics):\n%s", diff)
	}
}

// TestPrometheusFields: no field of Prometheus's is unknown here, so that each
// is taken or refused with its reason.
func TestPrometheusFields(t *testing.T) {
	for name, c := range map[string]struct {
		theirs any
		known  []string
	}{
		"remote_write":          {prometheus.RemoteWriteConfig{}, known(endpointTable)},
		"queue_config":          {prometheus.QueueConfig{}, known(queueTable)},
		"metadata_config":       {prometheus.MetadataConfig{}, known(metadataTable)},
		"write_relabel_configs": {relabel.Config{}, known(relabelTable)},
		"basic_auth":            {promconfig.BasicAuth{}, known(basicAuthTable)},
		"authorization":         {promconfig.Authorization{}, known(authorizationTable)},
		"oauth2":                {promconfig.OAuth2{}, known(oauth2Table)},
		"tls_config":            {promconfig.TLSConfig{}, known(tlsTable)},
		"http_headers":          {promconfig.Header{}, known(headerTable)},
		"sigv4":                 {sigv4.SigV4Config{}, known(sigv4Table)},
		"a scrape's client":     {promconfig.HTTPClientConfig{}, known(sourceTable)},
		"scrape_configs":        {prometheus.ScrapeConfig{}, known(sourceTable)},
		"global":                {prometheus.GlobalConfig{}, known(globalTable)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, field := range yamlFields(reflect.TypeOf(c.theirs)) {
				if !slices.Contains(c.known, field) {
					t.Errorf("%s is neither taken nor refused", field)
				}
			}
		})
	}
}

func known[T any](t table[T]) []string {
	var all []string
	for field := range t.fields {
		all = append(all, field)
	}
	for field := range t.refused {
		all = append(all, field)
	}
	return all
}

// yamlFields returns the names by which a struct's fields are written.
func yamlFields(t reflect.Type) []string {
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			all = append(all, yamlFields(f.Type)...)
		case name != "" && name != "-":
			all = append(all, name)
		}
	}
	return all
}
