package remotewrite

import (
	"encoding/binary"

	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// The fields of io.prometheus.write.v2.Request and what is in it.
const (
	tagV2Symbols = 4<<3 | wireBytes
	tagV2Series  = 5<<3 | wireBytes

	tagV2Labels    = 1<<3 | wireBytes
	tagV2Histogram = 3<<3 | wireBytes
	tagV2Exemplar  = 4<<3 | wireBytes
	tagV2Metadata  = 5<<3 | wireBytes

	tagV2Type = 1<<3 | wireVarint
	tagV2Help = 3<<3 | wireVarint
	tagV2Unit = 4<<3 | wireVarint
)

// appendV2 appends p as an io.prometheus.write.v2.Request. The symbols come
// first, because there are receivers that resolve references while they read.
func (e *encoder) appendV2(buf []byte, w *window, p *piece) []byte {
	e.request++
	e.symbols = 1
	buf = append(buf, tagV2Symbols, 0)

	members := w.members(p)
	for i := range members {
		m := &members[i]
		if m.points() == 0 {
			continue
		}
		for _, sym := range m.labels {
			buf = e.introduce(buf, sym)
		}
		buf = e.introduce(buf, m.help)
		buf = e.introduce(buf, m.unit)
		for _, x := range w.exemplars[m.exemplars.first:m.exemplars.last] {
			for _, sym := range x.labels {
				buf = e.introduce(buf, sym)
			}
		}
	}
	for i := range members {
		m := &members[i]
		exemplars := w.exemplars[m.exemplars.first:m.exemplars.last]
		if m.samples.len() > 0 {
			e.samples = w.appendRun(e.samples[:0], m.samples)
			buf = e.appendSeriesV2(buf, m, e.samples, nil, exemplars)
			exemplars = nil
		}
		if m.histograms.len() > 0 {
			// A TimeSeries has samples or histograms, never both.
			buf = e.appendSeriesV2(buf, m, nil, w.histograms[m.histograms.first:m.histograms.last], exemplars)
		}
	}
	return buf
}

// introduce appends sym to the request's symbols unless it is there.
func (e *encoder) introduce(buf []byte, sym *symbol) []byte {
	if sym == nil || sym.request == e.request {
		return buf
	}
	sym.request, sym.ref = e.request, e.symbols
	e.symbols++
	return appendString(buf, tagV2Symbols, sym.text)
}

// reference is the place of sym in the request's symbols; no symbol is the
// empty string, which is always the first.
func reference(sym *symbol) uint32 {
	if sym == nil {
		return 0
	}
	return sym.ref
}

func (e *encoder) appendSeriesV2(buf []byte, m *member, samples []sample, histograms []histogramSample, exemplars []exemplar) []byte {
	e.scratch = appendRareV2(e.scratch[:0], histograms, exemplars)

	labels := 0
	for _, sym := range m.labels {
		labels += uvarintSize(uint64(sym.ref))
	}
	kind := uint64(writev2.FromMetadataType(m.kind))
	help, unit := uint64(reference(m.help)), uint64(reference(m.unit))
	metadata := varintFieldSize(kind) + varintFieldSize(help) + varintFieldSize(unit)

	size := bytesSize(labels) + samplesSize(samples, true) + len(e.scratch)
	if metadata > 0 {
		size += bytesSize(metadata)
	}
	buf = appendTagged(buf, tagV2Series, size)
	buf = appendTagged(buf, tagV2Labels, labels)
	for _, sym := range m.labels {
		buf = binary.AppendUvarint(buf, uint64(sym.ref))
	}
	buf = appendSamples(buf, samples, true)
	buf = append(buf, e.scratch...)
	if metadata > 0 {
		buf = appendTagged(buf, tagV2Metadata, metadata)
		buf = appendVarintField(buf, tagV2Type, kind)
		buf = appendVarintField(buf, tagV2Help, help)
		buf = appendVarintField(buf, tagV2Unit, unit)
	}
	return buf
}

func varintFieldSize(x uint64) int {
	if x == 0 {
		return 0
	}
	return 1 + uvarintSize(x)
}

func appendVarintField(buf []byte, tag byte, x uint64) []byte {
	if x == 0 {
		return buf
	}
	return binary.AppendUvarint(append(buf, tag), x)
}

func appendRareV2(buf []byte, histograms []histogramSample, exemplars []exemplar) []byte {
	for i := range histograms {
		h := &histograms[i]
		var m writev2.Histogram
		if h.h != nil {
			m = writev2.FromIntHistogram(h.st, h.t, h.h)
		} else {
			m = writev2.FromFloatHistogram(h.st, h.t, h.fh)
		}
		buf = appendMessage(buf, tagV2Histogram, &m)
	}
	for i := range exemplars {
		x := &exemplars[i]
		m := writev2.Exemplar{Value: x.v, Timestamp: x.t, LabelsRefs: make([]uint32, 0, len(x.labels))}
		for _, sym := range x.labels {
			m.LabelsRefs = append(m.LabelsRefs, reference(sym))
		}
		buf = appendMessage(buf, tagV2Exemplar, &m)
	}
	return buf
}
