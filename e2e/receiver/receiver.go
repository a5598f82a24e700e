// Package receiver is the other end of remote write for tests: Prometheus's
// own write handler on a real TSDB, read back with its own PromQL engine, with
// a layer of faults in front and a record of every request it answered.
//
// Only tests may import it. The program itself links neither the TSDB nor the
// PromQL engine; the layout test sees to that.
package receiver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"

	"sql2metrics/e2e/servers"
)

// Message names a protobuf message of remote write.
type Message = remoteapi.WriteMessageType

// The messages a receiver may be told to accept.
const (
	V1 = remoteapi.WriteV1MessageType
	V2 = remoteapi.WriteV2MessageType
)

// Options shape a receiver. The zero value is what Prometheus does by default.
type Options struct {
	OutOfOrder time.Duration // the out-of-order window; 0
	Accept     []Message     // default: V1 and V2
}

// Receiver is a running receiver. All methods may be called from several
// goroutines, but Refuse and Listen from one at a time.
type Receiver struct {
	db     *tsdb.DB
	engine *promql.Engine
	parser parser.Parser
	addr   string
	server *http.Server // nil while it refuses connections
	port   net.Listener // of server
	served chan struct{}
	hurry  context.CancelFunc // ends the waits of slow requests
	store  http.Handler

	storing sync.RWMutex // held for reading from a request's storage to its record

	mu        sync.Mutex
	behaviour Behaviour
	requests  []Request
	attempts  int
}

// Start starts a receiver on a free port of the loopback interface, with its
// data in a temporary folder. It is up, and ends with the test.
func Start(tb testing.TB, o Options) *Receiver {
	tb.Helper()
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = o.OutOfOrder.Milliseconds()
	opts.StripeSize = 1 << 10
	db, err := tsdb.Open(tb.TempDir(), slog.New(slog.DiscardHandler), nil, opts, nil)
	if err != nil {
		tb.Fatalf("open the receiver's TSDB: %v", err)
	}
	db.DisableCompactions()
	if o.Accept == nil {
		o.Accept = []Message{V1, V2}
	}
	p := parser.NewParser(parser.Options{})
	r := &Receiver{
		db:     db,
		parser: p,
		engine: promql.NewEngine(promql.EngineOpts{
			MaxSamples:           50_000_000,
			Timeout:              time.Minute,
			EnableAtModifier:     true,
			EnableNegativeOffset: true,
			Parser:               p,
		}),
		addr:      servers.HoldPort(tb),
		behaviour: Up,
	}
	r.store = r.record(remote.NewWriteHandler(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), db, o.Accept, false, false, false))
	tb.Cleanup(func() {
		r.Refuse()
		if err := errors.Join(r.engine.Close(), db.Close()); err != nil {
			tb.Errorf("close the receiver: %v", err)
		}
	})
	r.Listen(tb)
	return r
}

// URL returns the address of the write endpoint. It stays the same when the
// receiver refuses connections and listens again.
func (r *Receiver) URL() string { return "http://" + r.addr + "/api/v1/write" }

// Listen makes a receiver that refuses connections accept them again.
func (r *Receiver) Listen(tb testing.TB) {
	tb.Helper()
	if r.server != nil {
		return
	}
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		tb.Fatalf("listen for remote write: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.hurry = cancel
	r.server = &http.Server{
		Handler:     r,
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, 0),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	r.served = make(chan struct{})
	r.port = l
	go func(s *http.Server, served chan struct{}) {
		defer close(served)
		_ = s.Serve(l)
	}(r.server, r.served)
}

// Refuse closes the port and all connections, when requests that are being
// stored have been answered: whoever writes gets connection refused until
// Listen. Nothing is stored after it.
func (r *Receiver) Refuse() {
	if r.server == nil {
		return
	}
	r.hurry()
	_ = servers.Unlisten(r.port)
	<-r.served
	grace, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.server.Shutdown(grace) // it waits for connections without a request, too
	_ = r.server.Close()
	r.storing.Lock() // Close waits for no handler
	defer r.storing.Unlock()
	r.server = nil
}
