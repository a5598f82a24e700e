// Package config reads sql2metrics' YAML: it is the only door by which a
// configuration gets into the program. What [Load] returns has every default
// filled in, every reference resolved and every value checked, so nobody
// behind it validates again. It imports nothing of ours.
//
// The words are Prometheus's own; remote_write is spelled as in prometheus.yml
// and collectors as in burningalchemist/sql_exporter, so that existing files
// can be pasted.
package config

import (
	"net/url"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/sigv4"
)

// Config is a whole, valid configuration. It is immutable: whoever holds one
// may read it from any goroutine, nobody writes to it.
type Config struct {
	Global      Global
	Self        Self
	Limits      Limits
	Storage     Storage
	RemoteWrite []RemoteWrite
	Sources     []Source
	// Warnings are about what works and is hardly meant. They change nothing:
	// whoever loads a configuration shows them.
	Warnings Errors

	Files Files // it was read from
}

// Global holds what applies to every source and every endpoint.
type Global struct {
	ScrapeInterval time.Duration // default interval of every query; 30s
	ScrapeTimeout  time.Duration // default timeout of every query; 10s
	ExternalLabels labels.Labels // added at send time, where the series has no such label
}

// Self says whether and how the agent collects its own registry into the log,
// as one more worker.
type Self struct {
	Enabled  bool          // default true
	Interval time.Duration // 30s
	Job      string        // sql2metrics
	Instance string        // default: host name and web port, filled in by the agent when empty
}

// Limits are of the whole agent.
type Limits struct {
	MaxSeries int // live series of all workers together; more are refused and counted; 100000
}

// Fsync says when appended frames are made safe against power loss.
type Fsync string

// The values of storage.fsync.
const (
	FsyncInterval Fsync = "interval" // a group sync each storage.fsync_interval
	FsyncAlways   Fsync = "always"   // an append returns after its sync; rounds that wait share one
	FsyncNever    Fsync = "never"    // the kernel decides
)

// Storage is where the log lives and how large it may grow.
type Storage struct {
	Path          string        // data; --storage.path overrides it
	MaxBytes      int64         // 1GiB, at least 16MiB; everything under Path
	MaxAge        time.Duration // 48h since the append
	MinFree       int64         // 256MiB of the volume left to others, at most a tenth of it
	Fsync         Fsync         // interval
	FsyncInterval time.Duration // 1s
	// DeadLetterMaxBytes is what the dead letters of all endpoints may take of
	// MaxBytes, of which at least 12MiB are left; 64MiB, or a quarter of a
	// smaller MaxBytes.
	DeadLetterMaxBytes int64
}

// Protocol is a remote write protobuf message, spelled as Prometheus's
// protobuf_message.
type Protocol string

// The values of remote_write.protobuf_message.
const (
	// ProtocolAuto is the default: 2.0, and 1.0 where the receiver does not take 2.0.
	ProtocolAuto Protocol = ""
	ProtocolV1   Protocol = "prometheus.WriteRequest"
	ProtocolV2   Protocol = "io.prometheus.write.v2.Request"
)

// The values of remote_write.start_at: where in the log an endpoint without a
// cursor begins.
const (
	StartAtEnd    = "end"    // with what is appended from then on
	StartAtOldest = "oldest" // with the oldest frame the log still holds
)

// RemoteWrite is one endpoint, spelled as in prometheus.yml. However it is
// printed or marshalled it is its name and URL: Prometheus's types of HTTP
// settings hide their secrets from some encoders only.
type RemoteWrite struct {
	URL           *url.URL // without a login: that is in HTTP
	Name          string   // identity of its cursor; default: a hash of the URL
	RemoteTimeout time.Duration
	Protocol      Protocol
	Headers       map[string]Secret
	WriteRelabel  []*relabel.Config
	// HTTP holds auth other than SigV4, TLS, proxy and http_headers.
	// FollowRedirects is always false, and no header in HTTPHeaders is one of
	// Headers or of the protocol.
	HTTP promconfig.HTTPClientConfig
	// SigV4 signs requests for AWS; nil: not. Never beside a login in HTTP. Its
	// type does not hide the secret key from a print of its own.
	SigV4 *sigv4.SigV4Config
	Queue Queue

	StartAt string // StartAtEnd or StartAtOldest; StartAtEnd
	// AdoptFrom names an endpoint that was removed, whose cursor this one takes
	// over when it has none. It is the name of no endpoint in the configuration.
	AdoptFrom string

	SendExemplars        bool // true; what false keeps back is counted as dropped
	SendNativeHistograms bool // true; what false keeps back is counted as dropped
	MetadataConfig       MetadataConfig

	// MaxBlock is after how long a request that never gets through is parked
	// in the dead letter, so that the ones behind it may try; 0: never.
	MaxBlock time.Duration
}

// MetadataConfig says how types and helps go out under remote write 1.0, in
// requests of their own. Under 2.0 they travel with the samples.
type MetadataConfig struct {
	Send              bool          // true
	SendInterval      time.Duration // 1m
	MaxSamplesPerSend int           // metrics per request; 2000
}

// Queue is remote_write.queue_config with the meaning it has here.
type Queue struct {
	MaxShards         int           // requests in flight; 8
	MaxSamplesPerSend int           // 2000
	BatchSendDeadline time.Duration // 5s
	MinBackoff        time.Duration // 1s
	MaxBackoff        time.Duration // 1m
	// SampleAgeLimit is the age at which a sample that waits is dropped, and
	// counted, instead of sent; 0: at none.
	SampleAgeLimit time.Duration
	// MaxSamplesPerSecond bounds how fast a backlog is sent; 0: 20 times the
	// live rate, and at least 20,000.
	MaxSamplesPerSecond int
}

// SourceType is a kind of database, or of what stands for one.
type SourceType string

// The kinds of source there are.
const (
	TypePostgres   SourceType = "postgres"
	TypeMySQL      SourceType = "mysql" // and MariaDB
	TypeClickHouse SourceType = "clickhouse"
	TypeRedis      SourceType = "redis"
	TypeSQLite     SourceType = "sqlite"
	TypeHTTPJSON   SourceType = "http_json"  // an API that answers with JSON
	TypePrometheus SourceType = "prometheus" // an exposition to scrape
)

// SourceProtocol is by which of its protocols a ClickHouse is spoken to.
type SourceProtocol string

// The values of a source's protocol.
const (
	ProtocolNative SourceProtocol = "native"
	ProtocolHTTP   SourceProtocol = "http"
)

// Source is one database with the queries to run on it, or one exposition. As
// an endpoint, it is printed and marshalled without its settings.
type Source struct {
	Name string // unique
	Type SourceType

	// DSN is data_source_name: a connection string in the driver's own words.
	// Either it or the structured fields are set. A Password, PasswordFile or
	// PasswordCommand beside it replaces the one it holds.
	DSN      Secret
	Host     string // host name, address or, beginning with a slash, what has the socket; 127.0.0.1
	Port     int    // that of the type
	User     string
	Password Secret
	// PasswordFile holds the password, a trailing newline cut.
	PasswordFile string
	// PasswordCommand is a program with its arguments that prints the password,
	// such as a token of a cloud. Like the files of TLS, both are read anew for
	// each connection.
	PasswordCommand []string
	Database        string     // postgres: default as User; redis: its number
	Databases       *Databases // postgres, mysql: those that each query runs in; nil: Database alone
	// Addresses are host:port, in place of Host and Port, where a type takes
	// several.
	Addresses   []string
	Path        string // sqlite: the file
	TLS         TLS
	StartupSQL  []string       // statements that each new connection begins with
	Protocol    SourceProtocol // clickhouse: native
	Compression string         // clickhouse: none, lz4 or zstd; lz4

	// Cluster says that a Redis is one: Addresses are some of its nodes.
	Cluster bool
	// SentinelMaster is the name by which Redis Sentinels know the master to
	// connect to: Addresses are theirs, and the other fields how to log in there.
	SentinelMaster       string
	SentinelUser         string
	SentinelPassword     Secret
	SentinelPasswordFile string

	// URL is what a prometheus source scrapes, and what the requests of an
	// http_json source are relative to, its path never empty. A login in it has
	// moved to HTTP.
	URL *url.URL
	// HTTP is how both ask for it, with Prometheus's defaults: HTTP/2, and
	// redirects followed, which whoever asks keeps to the host of URL.
	HTTP promconfig.HTTPClientConfig
	// BodySizeLimit bounds an answer to either, uncompressed, in bytes; 64MiB.
	BodySizeLimit int64
	AllowPost     bool    // http_json: queries may POST; false
	Scrape        *Scrape // of type prometheus, nil for others

	Job            string        // label job on the remote path; default: Type
	Instance       string        // label instance; default host:port, the path as written for sqlite
	Labels         labels.Labels // on every series of the source, also up
	MaxConnections int           // 2; 0 for prometheus, which has none to count
	// MaxConnectionLifetime is how long a connection is kept, so that a failover
	// or a changed address is followed; 30m, and 0 where it means nothing.
	MaxConnectionLifetime time.Duration
	// MaxResultBytes bounds what one result may take, and so what the agent has
	// to hold of one row; 64MiB, and 0 for the types that have a BodySizeLimit.
	MaxResultBytes int64
	// Interval is the clock of up, and of scrapes: global.scrape_interval, or
	// the source's own for prometheus.
	Interval time.Duration
	// Timeout is that of connecting and of the ping behind up, or of a scrape;
	// at most Interval: global.scrape_timeout, or the source's own for prometheus.
	Timeout time.Duration

	// Queries are what Source.collectors selected, resolved: each with its
	// own copy of the metrics made from it. A prometheus source has none.
	Queries []Query
}

// ScrapeProtocol is a format of an exposition, in Prometheus's words.
type ScrapeProtocol string

// The values of scrape_protocols.
const (
	PrometheusProto      ScrapeProtocol = "PrometheusProto"
	OpenMetricsText1_0_0 ScrapeProtocol = "OpenMetricsText1.0.0"
	OpenMetricsText0_0_1 ScrapeProtocol = "OpenMetricsText0.0.1"
	PrometheusText1_0_0  ScrapeProtocol = "PrometheusText1.0.0"
	PrometheusText0_0_4  ScrapeProtocol = "PrometheusText0.0.4"
)

// Scrape says how an exposition is read. The fields are those of Prometheus's
// scrape_configs and mean what they mean there.
type Scrape struct {
	// Protocols are what is asked for, most wanted first. Default: the texts, in
	// the order above; with NativeHistograms PrometheusProto before them.
	Protocols []ScrapeProtocol
	// FallbackProtocol is how a page is read whose Content-Type says nothing;
	// empty: it is an error.
	FallbackProtocol ScrapeProtocol
	// EscapingScheme is what becomes, at the target, of names that are not
	// letters, digits and underscores: allow-utf-8, underscores, dots or values.
	EscapingScheme model.EscapingScheme
	Compression    bool // enable_compression; true

	HonorLabels              bool // a label of the page wins over one of the source
	HonorTimestamps          bool // true
	TrackTimestampsStaleness bool // series with their own times get stale markers too
	MetricRelabel            []*relabel.Config

	NativeHistograms bool // scrape_native_histograms
	// ClassicHistograms keeps the classic series of a histogram that is native
	// too: always_scrape_classic_histograms.
	ClassicHistograms bool
	// ConvertToNHCB makes native histograms with custom buckets of classic ones:
	// convert_classic_histograms_to_nhcb.
	ConvertToNHCB bool

	// A page over one of these limits fails as a whole; 0: none. Samples and
	// labels are counted after MetricRelabel. Default: what global says of them.
	SampleLimit int
	LabelLimits LabelLimits
	// A native histogram over one of these has its buckets merged; 0: none.
	BucketLimit     int     // native_histogram_bucket_limit
	MinBucketFactor float64 // native_histogram_min_bucket_factor

	// ExtraMetrics adds scrape_timeout_seconds, scrape_sample_limit and
	// scrape_body_size_bytes.
	ExtraMetrics bool
}

// TLS is a source's transport security: the fields sslmode and tls_config. With
// a DSN it is unset, as the string has its own.
type TLS struct {
	// Mode is sslmode, libpq's word: disable, allow, prefer, require, verify-ca,
	// verify-full. Default prefer; verify-full as soon as CAFile is set.
	Mode       string
	CAFile     string
	CertFile   string
	KeyFile    string
	ServerName string
}
