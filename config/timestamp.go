package config

import (
	"time"

	"go.yaml.in/yaml/v3"
)

var timestampTable = table[Timestamp]{
	fields: map[string]func(node, *Timestamp){
		"unit": func(n node, t *Timestamp) {
			oneOf(n, &t.Unit, TimestampSeconds, TimestampMilliseconds, TimestampMicroseconds, TimestampNanoseconds)
		},
		"timezone":   func(n node, t *Timestamp) { n.location(&t.Location) },
		"max_age":    func(n node, t *Timestamp) { n.anyDuration(&t.MaxAge) },
		"only_newer": func(n node, t *Timestamp) { n.bool(&t.OnlyNewer) },
	},
}

// finishTimestamp fills in how the samples' own times are read, if they have any.
func (m *metric) finishTimestamp() {
	if m.TimestampValue != "" {
		m.Timestamp = Timestamp{Location: time.UTC, OnlyNewer: true}
	}
	if !m.has("timestamp") {
		return
	}
	if at := m.at("timestamp"); at.yaml.Kind == yaml.ScalarNode && !at.isNull() {
		at.wrongType("a mapping", "timestamp_value for the name of the column")
		return
	}
	var t Timestamp
	if m.TimestampValue != "" {
		t = m.Timestamp
	}
	decode(m.at("timestamp"), timestampTable, &t)
	if !m.has("timestamp_value") {
		m.at("timestamp").fail("stands without timestamp_value", "name the column of the time in timestamp_value, or delete it")
		return
	}
	m.Timestamp = t
}
