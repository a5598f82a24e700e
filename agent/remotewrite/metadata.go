package remotewrite

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// metadataSender sends types and helps to receivers of 1.0, in requests of
// their own from time to time. They go beside the samples and never hold them
// up: an answer is counted and nothing else, and what is not taken goes again
// the next time.
type metadataSender struct {
	config.MetadataConfig
	client  *client
	metrics *metrics

	due    time.Time
	cancel context.CancelFunc // of the goroutine; nil: there was none
	done   chan struct{}      // it has ended
}

// send sends what families returns, if it is time.
func (m *metadataSender) send(ctx context.Context, now time.Time, families func() map[string]wal.Metadata) {
	if !m.Send || now.Before(m.due) || m.busy() {
		return
	}
	all := families()
	if len(all) == 0 {
		return
	}
	m.due = now.Add(m.SendInterval)
	requests := encodeMetadata(all, m.MaxSamplesPerSend)
	m.stop()
	ctx, m.cancel = context.WithCancel(ctx)
	m.done = make(chan struct{})
	go func(done chan<- struct{}) {
		defer close(done)
		for _, r := range requests {
			a := m.client.post(ctx, config.ProtocolV1, r.body)
			if a.judge(config.ProtocolV1, false, true, true) == accepted {
				m.metrics.metadataSent.Add(float64(r.families))
			} else {
				m.metrics.metadataFailed.Add(float64(r.families))
			}
		}
	}(m.done)
}

func (m *metadataSender) busy() bool {
	if m.done == nil {
		return false
	}
	select {
	case <-m.done:
		return false
	default:
		return true
	}
}

// stop ends what is being sent, and waits for it.
func (m *metadataSender) stop() {
	if m.cancel != nil {
		m.cancel()
		<-m.done
	}
}

// metadataRequest is one request of metadata.
type metadataRequest struct {
	body     []byte
	families int
}

// encodeMetadata makes requests of at most limit families, by name.
func encodeMetadata(families map[string]wal.Metadata, limit int) []metadataRequest {
	var requests []metadataRequest
	for names := range slices.Chunk(slices.Sorted(maps.Keys(families)), limit) {
		var buf []byte
		for _, name := range names {
			m := families[name]
			buf = appendMessage(buf, tagV1Metadata, &prompb.MetricMetadata{
				Type: prompb.FromMetadataType(m.Type), MetricFamilyName: name, Help: m.Help, Unit: m.Unit,
			})
		}
		requests = append(requests, metadataRequest{s2.EncodeSnappy(nil, buf), len(names)})
	}
	return requests
}

// families returns the metadata of what the table knows, by metric family.
func (t *table) families() map[string]wal.Metadata {
	all := map[string]wal.Metadata{}
	for _, s := range t.series {
		for ; s != nil; s = s.next {
			if m := s.metadata(); m != (wal.Metadata{}) {
				all[familyName(s)] = m
			}
		}
	}
	return all
}

// familyName is the name by which a series' metadata is known: that of the
// metric without what histograms and summaries add to it.
func familyName(s *series) string {
	name := ""
	for i := 0; i < len(s.labels); i += 2 {
		if s.labels[i].text == model.MetricNameLabel {
			name = s.labels[i+1].text
		}
	}
	switch s.kind {
	case model.MetricTypeHistogram, model.MetricTypeGaugeHistogram:
		name = strings.TrimSuffix(name, "_bucket")
		fallthrough
	case model.MetricTypeSummary:
		name = strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_sum")
	}
	return name
}
