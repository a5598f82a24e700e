package collect

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/osutil"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// sideBySide is what a target answers, scrape after scrape, and how it is
// scraped.
type sideBySide struct {
	config string            // further lines of the scrape_config, as in prometheus.yml
	labels map[string]string // of the target, beside job and instance; nil: team="shop"
	pages  []page
	// unmarked are pages, from 1, of which no stale markers are compared. What
	// Prometheus has read of a page that then fails it takes for stored, and so
	// marks series of the page before too late, and such as it has never stored.
	unmarked []int
	// undescribed are the beginnings of series without metadata in Prometheus,
	// which gives up that of a family at the first series that is not of it.
	undescribed []string
}

// comparedAt is when pages are compared, on Prometheus's clock and on ours.
var comparedAt = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// soon is a time so many seconds after comparedAt, as OpenMetrics spells it.
func soon(seconds float64) string {
	return fmt.Sprintf("%.3f", float64(comparedAt.Unix())+seconds)
}

// soonMillis is likewise Unix milliseconds.
func soonMillis(seconds int64) int64 { return (comparedAt.Unix() + seconds) * 1000 }

// compareScrapes lets Prometheus's own scrape loop and a Scrape read the same
// pages, one after the other, and compares what each of them stores.
func compareScrapes(t *testing.T, cases map[string]sideBySide) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			stored, asked := c.prometheus(t)
			got, header := c.ours(t)
			for _, h := range []string{"Accept", "Accept-Encoding"} {
				if got, want := header.Get(h), asked.Get(h); got != want {
					t.Errorf("%s: Prometheus sends %s, we %s", h, want, got)
				}
			}
			for i, want := range stored {
				if diff := cmp.Diff(c.compared(i, want), c.compared(i, got[i])); diff != "" {
					t.Errorf("page %d: Prometheus stores -, we +:\n%s", i+1, diff)
				}
			}
		})
	}
}

// compared are the lines of what was stored of a page that are to be equal.
func (c sideBySide) compared(page int, stored string) []string {
	lines := strings.Split(stored, "\n")
	for i, l := range lines {
		if slices.ContainsFunc(c.undescribed, func(name string) bool { return strings.HasPrefix(l, name) }) {
			lines[i], _, _ = strings.Cut(l, " (")
		}
	}
	if !slices.Contains(c.unmarked, page+1) {
		return lines
	}
	return slices.DeleteFunc(lines, func(l string) bool { return strings.HasSuffix(l, " stale @now") })
}

func (c sideBySide) targetLabels() map[string]string {
	if c.labels == nil {
		return map[string]string{"team": "shop"}
	}
	return c.labels
}

// scrapeConfig is what Prometheus reads.
func (c sideBySide) scrapeConfig() (*promconfig.Config, error) {
	text := "scrape_configs:\n- job_name: pg\n  scrape_interval: 1s\n  scrape_timeout: 1s\n"
	for line := range strings.SplitSeq(strings.TrimSpace(c.config), "\n") {
		text += "  " + line + "\n"
	}
	return promconfig.Load(text, discard)
}

// source is what a Scrape is told of the same.
func (c sideBySide) source(t *testing.T) config.Source {
	all, err := c.scrapeConfig()
	if err != nil {
		t.Fatal(err)
	}
	scrapes, err := all.GetScrapeConfigs()
	if err != nil {
		t.Fatal(err)
	}
	from := scrapes[0]
	s := scrapedSource()
	s.Labels, s.Timeout = labels.FromMap(c.targetLabels()), time.Duration(from.ScrapeTimeout)
	if from.BodySizeLimit > 0 {
		s.BodySizeLimit = int64(from.BodySizeLimit)
	}
	if s.Scrape.EscapingScheme, err = promconfig.ToEscapingScheme(from.MetricNameEscapingScheme, from.MetricNameValidationScheme); err != nil {
		t.Fatal(err)
	}
	s.Scrape.Protocols = nil
	for _, p := range from.ScrapeProtocols {
		s.Scrape.Protocols = append(s.Scrape.Protocols, config.ScrapeProtocol(p))
	}
	s.Scrape.FallbackProtocol = config.ScrapeProtocol(from.ScrapeFallbackProtocol)
	s.Scrape.Compression = from.EnableCompression
	s.Scrape.HonorLabels = from.HonorLabels
	s.Scrape.HonorTimestamps = from.HonorTimestamps
	s.Scrape.TrackTimestampsStaleness = from.TrackTimestampsStaleness
	s.Scrape.MetricRelabel = from.MetricRelabelConfigs
	s.Scrape.NativeHistograms = from.ScrapeNativeHistogramsEnabled()
	s.Scrape.ClassicHistograms = from.AlwaysScrapeClassicHistogramsEnabled()
	s.Scrape.ConvertToNHCB = from.ConvertClassicHistogramsToNHCBEnabled()
	s.Scrape.SampleLimit = int(from.SampleLimit)
	s.Scrape.LabelLimits = config.LabelLimits{
		Count: int(from.LabelLimit), NameLength: int(from.LabelNameLengthLimit), ValueLength: int(from.LabelValueLengthLimit),
	}
	s.Scrape.BucketLimit = int(from.NativeHistogramBucketLimit)
	s.Scrape.MinBucketFactor = from.NativeHistogramMinBucketFactor
	s.Scrape.ExtraMetrics = from.ExtraScrapeMetricsEnabled()
	return s
}

// ours returns what a Scrape stores of each page, and how it asks for them.
func (c sideBySide) ours(t *testing.T) (rounds []string, asked http.Header) {
	r := newScrapeRigOf(t, c.source(t), c.pages...)
	for i := range c.pages {
		rounds = append(rounds, r.stepAt(comparedAt.Add(time.Duration(i)*time.Second)))
	}
	return rounds, r.asked
}

// pipes are the connections to a server that is reached without a network: what
// waits for one of them waits on a clock of synctest.
type pipes struct {
	made   chan net.Conn
	closed chan struct{}
}

func newPipes() pipes { return pipes{make(chan net.Conn), make(chan struct{})} }

// dial connects, whatever the address.
func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.made <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements [net.Listener].
func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.made:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements [net.Listener].
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

// Close implements [net.Listener].
func (p pipes) Close() error {
	close(p.closed)
	return nil
}

// prometheus returns what Prometheus stores of each page, and how it asks for
// them. Its seconds pass on a clock of their own, which stands still while
// anything is under way: a scrape can not be late, however busy the machine is.
func (c sideBySide) prometheus(t *testing.T) (rounds []string, asked http.Header) {
	t.Helper()
	// Prometheus looks its host up. What package net keeps for that it makes at
	// the first time, and not within a bubble, to which it would belong.
	_, _ = osutil.GetFQDN()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(comparedAt))
		store, err := newMemory(len(c.pages))
		if err != nil {
			t.Fatal(err)
		}
		served := 0
		connections := newPipes()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if served++; served > len(c.pages) {
				return
			}
			asked = r.Header.Clone()
			c.pages[served-1].serve(w)
		})}
		var running sync.WaitGroup
		defer running.Wait()
		defer server.Close()
		running.Go(func() { _ = server.Serve(connections) })
		m, err := scrape.NewManager(&scrape.Options{
			AppendMetadata: true, ParseST: true, DiscoveryReloadInterval: model.Duration(10 * time.Millisecond),
			HTTPClientOptions: []commonconfig.HTTPClientOption{commonconfig.WithDialContextFunc(connections.dial)},
		}, discard, nil, nil, store, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := c.scrapeConfig()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.ApplyConfig(cfg); err != nil {
			t.Fatal(err)
		}
		attached := model.LabelSet{model.AddressLabel: "target.invalid:80", "instance": "h:1"}
		for name, value := range c.targetLabels() {
			attached[model.LabelName(name)] = model.LabelValue(value)
		}
		targets := make(chan map[string][]*targetgroup.Group, 1)
		targets <- map[string][]*targetgroup.Group{"pg": {{Targets: []model.LabelSet{attached}}}}
		running.Go(func() { _ = m.Run(targets) })
		defer m.Stop()
		for range c.pages {
			select {
			case round := <-store.rounds:
				rounds = append(rounds, round)
			case <-time.After(time.Minute):
				t.Fatalf("Prometheus has not stored page %d", len(rounds)+1)
			}
		}
	})
	return rounds, asked
}

// memory stores what Prometheus appends, by the rules of its own database.
type memory struct {
	rounds    chan string
	series    map[string]storage.SeriesRef
	last      map[storage.SeriesRef]printedSample
	exemplars tsdb.ExemplarStorage
}

func newMemory(rounds int) (*memory, error) {
	exemplars, err := tsdb.NewCircularExemplarStorage(10_000, tsdb.NewExemplarMetrics(prometheus.NewRegistry()), 0)
	return &memory{
		rounds: make(chan string, rounds), series: map[string]storage.SeriesRef{},
		last: map[storage.SeriesRef]printedSample{}, exemplars: exemplars,
	}, err
}

func (m *memory) AppenderV2(context.Context) storage.AppenderV2 { return &memoryRound{memory: m} }

type memoryRound struct {
	*memory
	pending []memorySample
}

type memorySample struct {
	ref storage.SeriesRef
	printedSample
	offered []exemplar.Exemplar
}

func (r *memoryRound) Append(_ storage.SeriesRef, lset labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	var err error
	switch {
	case h != nil:
		h, err = h.Copy(), h.Validate()
	case fh != nil:
		fh, err = fh.Copy(), fh.Validate()
	}
	if err != nil {
		return 0, err
	}
	if _, twice := lset.HasDuplicateLabelNames(); twice {
		return 0, fmt.Errorf("label name not unique")
	}
	ref := r.series[lset.String()]
	if ref == 0 {
		ref = storage.SeriesRef(len(r.series) + 1)
		r.series[lset.String()] = ref
	}
	s := printedSample{labels: lset, st: st, t: t, v: v, h: h, fh: fh, meta: wal.Metadata{Type: o.Metadata.Type, Unit: o.Metadata.Unit, Help: o.Metadata.Help}}
	switch {
	case h != nil:
		s.v = h.Sum
	case fh != nil:
		s.v = fh.Sum
	}
	switch last, ok := r.last[ref]; {
	case ok && t < last.t:
		return 0, storage.ErrOutOfOrderSample
	case ok && t == last.t && !s.is(last):
		return 0, storage.ErrDuplicateSampleForTimestamp
	}
	r.pending = append(r.pending, memorySample{ref, s, slices.Clone(o.Exemplars)})
	return ref, nil
}

// is tells whether two samples of a time are the same one.
func (s printedSample) is(o printedSample) bool {
	switch {
	case s.h != nil:
		return s.h.Equals(o.h)
	case s.fh != nil:
		return s.fh.Equals(o.fh)
	}
	return o.h == nil && o.fh == nil && math.Float64bits(s.v) == math.Float64bits(o.v)
}

func (r *memoryRound) Commit() error {
	var round []printedSample
	for _, s := range r.pending {
		if last, ok := r.last[s.ref]; ok && s.t <= last.t {
			continue
		}
		r.last[s.ref] = s.printedSample
		round = append(round, s.printedSample)
	}
	for _, s := range r.pending {
		for _, e := range s.offered {
			if r.exemplars.ValidateExemplar(s.labels, e) == nil && r.exemplars.AddExemplar(s.labels, e) == nil {
				round = attach(round, s.labels, wal.Exemplar{T: e.Ts, V: e.Value, Labels: e.Labels})
			}
		}
	}
	select {
	case r.rounds <- printRound(round):
	default: // the end of the test
	}
	return nil
}

func (r *memoryRound) Rollback() error { return nil }
