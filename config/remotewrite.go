package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"

	promconfig "github.com/prometheus/common/config"
)

// endpoint is one entry of remote_write as it was read.
type endpoint struct {
	object
	RemoteWrite
	queue object
}

var endpointTable = table[endpoint]{
	fields: withClient(func(e *endpoint) *promconfig.HTTPClientConfig { return &e.HTTP }, map[string]func(node, *endpoint){
		"url":                    func(n node, e *endpoint) { n.httpURL(&e.URL) },
		"name":                   func(n node, e *endpoint) { n.string(&e.Name) },
		"start_at":               func(n node, e *endpoint) { oneOf(n, &e.StartAt, StartAtEnd, StartAtOldest) },
		"adopt_from":             func(n node, e *endpoint) { n.string(&e.AdoptFrom) },
		"remote_timeout":         func(n node, e *endpoint) { n.duration(&e.RemoteTimeout) },
		"max_block":              func(n node, e *endpoint) { n.anyDuration(&e.MaxBlock) },
		"protobuf_message":       func(n node, e *endpoint) { oneOf(n, &e.Protocol, ProtocolV1, ProtocolV2) },
		"headers":                func(n node, e *endpoint) { e.Headers = n.headers() },
		"write_relabel_configs":  func(n node, e *endpoint) { e.WriteRelabel = n.relabelConfigs() },
		"queue_config":           func(n node, e *endpoint) { e.queue = decode(n, queueTable, &e.Queue) },
		"metadata_config":        func(n node, e *endpoint) { decode(n, metadataTable, &e.MetadataConfig) },
		"send_exemplars":         func(n node, e *endpoint) { n.bool(&e.SendExemplars) },
		"send_native_histograms": func(n node, e *endpoint) { n.bool(&e.SendNativeHistograms) },
		"sigv4":                  func(n node, e *endpoint) { e.SigV4 = n.sigv4() },

		"follow_redirects": func(n node, _ *endpoint) {
			n.always(false, "redirects are refused here: a redirected POST may become a GET, whose success says nothing about the samples",
				"delete it, and write the final URL")
		},
		"round_robin_dns": func(n node, _ *endpoint) {
			n.always(false, "is not built: the requests in flight share the connections that are open", "delete it; a balancer in front of the receivers spreads them")
		},
		"failed_request_logging": func(n node, _ *endpoint) {
			n.always(false, "is not needed here: the log has the receiver's words, and the dead letter what it refused", "delete it")
		},
	}),
	refused: map[string]refusal{
		"azuread":              {"is not built", "use authorization, oauth2 or a proxy that signs in"},
		"google_iam":           {"is not built", "use authorization or a proxy that signs in"},
		"proxy_connect_header": noConnectHeader,
	},
}

// queueTable refuses what Prometheus needs and a queue on disk does not.
var queueTable = table[Queue]{
	fields: map[string]func(node, *Queue){
		"max_shards":             func(n node, q *Queue) { n.int(1, &q.MaxShards) },
		"max_samples_per_send":   func(n node, q *Queue) { n.int(1, &q.MaxSamplesPerSend) },
		"max_samples_per_second": func(n node, q *Queue) { n.int(0, &q.MaxSamplesPerSecond) },
		"batch_send_deadline":    func(n node, q *Queue) { n.duration(&q.BatchSendDeadline) },
		"min_backoff":            func(n node, q *Queue) { n.duration(&q.MinBackoff) },
		"max_backoff":            func(n node, q *Queue) { n.duration(&q.MaxBackoff) },
		"sample_age_limit":       func(n node, q *Queue) { n.anyDuration(&q.SampleAgeLimit) },
		"retry_on_http_429": func(n node, _ *Queue) {
			n.always(true, "429 is always retried here: what waits is on disk, and the receiver asks for time, not for loss",
				"delete it; sample_age_limit bounds how long a sample may wait")
		},
	},
	refused: map[string]refusal{
		"capacity":   {"means nothing here: samples wait in the log on disk, not in a queue in memory", "delete it; storage.max_bytes bounds the log"},
		"min_shards": {"means nothing here: requests in flight follow the backlog by themselves, from one up to max_shards", "delete it"},
	},
}

var metadataTable = table[MetadataConfig]{
	fields: map[string]func(node, *MetadataConfig){
		"send":                 func(n node, m *MetadataConfig) { n.bool(&m.Send) },
		"send_interval":        func(n node, m *MetadataConfig) { n.duration(&m.SendInterval) },
		"max_samples_per_send": func(n node, m *MetadataConfig) { n.int(1, &m.MaxSamplesPerSend) },
	},
}

// decodeEndpoint reads an entry of remote_write and checks it.
func decodeEndpoint(n node) *endpoint {
	e := &endpoint{RemoteWrite: DefaultRemoteWrite()}
	before := len(n.in.load.errs)
	e.object = decode(n, endpointTable, e)
	e.require("url", "write the URL that takes remote write, such as https://mimir/api/v1/push")
	if e.Name == "" && e.URL != nil {
		e.Name = defaultName(e.URL)
	}
	e.takeLogin(e.URL, &e.HTTP)
	if e.Queue.MaxBackoff < e.Queue.MinBackoff {
		at := e.queue.at("max_backoff")
		at.fail(fmt.Sprintf("max_backoff %s is below min_backoff %s", prometheusDuration(e.Queue.MaxBackoff), prometheusDuration(e.Queue.MinBackoff)),
			"make max_backoff the larger")
	}
	e.exclusive(logins...)
	e.checkHeaders()
	if len(n.in.load.errs) == before {
		e.checkClient(&e.HTTP)
	}
	return e
}

// always takes a field that says what happens anyway, and explains why the
// other way is not to be had.
func (n node) always(want bool, problem, remedy string) {
	got := want
	if n.bool(&got); got != want {
		n.fail(problem, remedy)
	}
}

// checkAdoption reports cursors to be taken over that cannot be.
func checkAdoption(endpoints []*endpoint) {
	byName, first := map[string]*endpoint{}, map[string]node{}
	for _, e := range endpoints {
		byName[e.Name] = e
	}
	for _, e := range endpoints {
		if e.AdoptFrom == "" {
			continue
		}
		at := e.at("adopt_from")
		if other := byName[e.AdoptFrom]; other != nil {
			at.fail(fmt.Sprintf("%q is an endpoint itself, on %s, and keeps its cursor", e.AdoptFrom, other.place(at)),
				"write the former name of an endpoint that was removed")
		} else if other, twice := first[e.AdoptFrom]; twice {
			at.fail(fmt.Sprintf("the cursor of %q is taken over already, on %s", e.AdoptFrom, other.place(at)), "let one endpoint take it over")
		} else {
			first[e.AdoptFrom] = at
		}
	}
}

// Format implements [fmt.Formatter] for every verb and flag.
func (r RemoteWrite) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s at %s", r.Name, r.URL)
}

// MarshalText implements encoding.TextMarshaler, and so JSON, XML and YAML.
func (r RemoteWrite) MarshalText() ([]byte, error) { return fmt.Append(nil, r), nil }

// defaultName is short, stable and free of secrets: a hash of the URL without
// its password.
func defaultName(u *url.URL) string {
	public := *u
	if u.User != nil {
		public.User = url.User(u.User.Username())
	}
	sum := sha256.Sum256([]byte(public.String()))
	return hex.EncodeToString(sum[:4])
}
