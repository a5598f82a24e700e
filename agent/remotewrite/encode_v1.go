package remotewrite

import "github.com/prometheus/prometheus/prompb"

// The fields of prometheus.WriteRequest and what is in it.
const (
	tagV1Series   = 1<<3 | wireBytes
	tagV1Metadata = 3<<3 | wireBytes

	tagV1Label     = 1<<3 | wireBytes
	tagV1Exemplar  = 3<<3 | wireBytes
	tagV1Histogram = 4<<3 | wireBytes

	tagV1Name  = 1<<3 | wireBytes
	tagV1Value = 2<<3 | wireBytes
)

// appendV1 appends p as a prometheus.WriteRequest. Metadata and start
// timestamps have no place in its series, nor have histograms with custom
// buckets.
func (e *encoder) appendV1(buf []byte, w *window, p *piece) []byte {
	members := w.members(p)
	for i := range members {
		m := &members[i]
		exemplars := w.exemplars[m.exemplars.first:m.exemplars.last]
		if m.samples.len() > 0 {
			e.samples = w.appendRun(e.samples[:0], m.samples)
			buf = e.appendSeriesV1(buf, m, e.samples, nil, exemplars)
			exemplars = nil
		}
		if histograms := e.carried(w, m); len(histograms) > 0 {
			buf = e.appendSeriesV1(buf, m, nil, histograms, exemplars)
		}
	}
	return buf
}

// carried returns the histograms of m that 1.0 can carry.
func (e *encoder) carried(w *window, m *member) []histogramSample {
	all := w.histograms[m.histograms.first:m.histograms.last]
	if !w.custom {
		return all
	}
	e.histograms = e.histograms[:0]
	for i := range all {
		if !all[i].custom() {
			e.histograms = append(e.histograms, all[i])
		}
	}
	return e.histograms
}

func (e *encoder) appendSeriesV1(buf []byte, m *member, samples []sample, histograms []histogramSample, exemplars []exemplar) []byte {
	if m.v1 == nil {
		m.v1 = appendLabelsV1(nil, m.labels)
	}
	e.scratch = appendRareV1(e.scratch[:0], histograms, exemplars)
	buf = appendTagged(buf, tagV1Series, len(m.v1)+samplesSize(samples, false)+len(e.scratch))
	buf = append(buf, m.v1...)
	buf = appendSamples(buf, samples, false)
	return append(buf, e.scratch...)
}

func appendLabelsV1(buf []byte, labels []*symbol) []byte {
	for i := 0; i < len(labels); i += 2 {
		name, value := labels[i].text, labels[i+1].text
		buf = appendTagged(buf, tagV1Label, bytesSize(len(name))+bytesSize(len(value)))
		buf = appendString(buf, tagV1Name, name)
		buf = appendString(buf, tagV1Value, value)
	}
	return buf
}

func appendRareV1(buf []byte, histograms []histogramSample, exemplars []exemplar) []byte {
	for i := range exemplars {
		x := &exemplars[i]
		m := prompb.Exemplar{Value: x.v, Timestamp: x.t}
		for j := 0; j < len(x.labels); j += 2 {
			m.Labels = append(m.Labels, prompb.Label{Name: x.labels[j].text, Value: x.labels[j+1].text})
		}
		buf = appendMessage(buf, tagV1Exemplar, &m)
	}
	for i := range histograms {
		h := &histograms[i]
		var m prompb.Histogram
		if h.h != nil {
			m = prompb.FromIntHistogram(h.t, h.h)
		} else {
			m = prompb.FromFloatHistogram(h.t, h.fh)
		}
		buf = appendMessage(buf, tagV1Histogram, &m)
	}
	return buf
}
