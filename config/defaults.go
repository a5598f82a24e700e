package config

import (
	"time"

	promconfig "github.com/prometheus/common/config"
)

// Default returns what a configuration without any field means.
func Default() Config {
	return Config{
		Global: Global{
			ScrapeInterval: 30 * time.Second,
			ScrapeTimeout:  10 * time.Second,
		},
		Self: Self{
			Enabled:  true,
			Interval: 30 * time.Second,
			Job:      "sql2metrics",
		},
		Limits: Limits{MaxSeries: 100000},
		Storage: Storage{
			Path:               "data",
			MaxBytes:           1 << 30,
			MaxAge:             48 * time.Hour,
			MinFree:            256 << 20,
			Fsync:              FsyncInterval,
			FsyncInterval:      time.Second,
			DeadLetterMaxBytes: defaultDeadLetterMaxBytes,
		},
	}
}

// DefaultRemoteWrite returns an endpoint without URL and name. Redirects are
// never followed: a redirected POST becomes a GET, and its 2xx would be taken
// for the receiver's word that the samples are stored.
func DefaultRemoteWrite() RemoteWrite {
	return RemoteWrite{
		RemoteTimeout: 30 * time.Second,
		Protocol:      ProtocolAuto,
		HTTP:          promconfig.HTTPClientConfig{EnableHTTP2: false, FollowRedirects: false},
		Queue: Queue{
			MaxShards:         8, // 50 ms to the receiver and 2,000 samples a request make 320,000 samples/s
			MaxSamplesPerSend: 2000,
			BatchSendDeadline: 5 * time.Second,
			MinBackoff:        time.Second,
			MaxBackoff:        time.Minute,
		},
		StartAt:              StartAtEnd,
		SendExemplars:        true,
		SendNativeHistograms: true,
		MetadataConfig:       MetadataConfig{Send: true, SendInterval: time.Minute, MaxSamplesPerSend: 2000},
	}
}

// defaultDeadLetterMaxBytes holds in a log of at least four times its size; in
// a smaller one the default is a quarter of it.
const defaultDeadLetterMaxBytes = 64 << 20

// leastMaxBytes is the smallest storage.max_bytes, leastLogBytes what it leaves
// the log beside the dead letters' quarter. In that the largest segment, an
// eighth, still takes a round of 100,000 new series, about 0.7 MB, with the
// table that repeats them at its seal.
const (
	leastLogBytes = 12 << 20
	leastMaxBytes = 16 << 20
)

// Defaults of a source. Its job is its type, its instance its address, its
// interval and timeout those of [Global].
const (
	defaultMaxConnections        = 2
	defaultMaxConnectionLifetime = 30 * time.Minute
	defaultMaxResultBytes        = 64 << 20
	defaultBodySizeLimit         = 64 << 20
	defaultHost                  = "127.0.0.1"
)
