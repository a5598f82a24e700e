package sources

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/prometheus/common/version"

	"sql2metrics/config"
)

// httpJSON is an API that answers with JSON.
type httpJSON struct {
	source  config.Source
	client  *httpClient
	breaker *breaker
	login   *httpLogin
	life    lifetime
	slots   slots

	mu    sync.Mutex
	idle  []*httpBody
	sizes map[string]int // of the last answer to each query
}

func openHTTPJSON(s config.Source, o Options, now func() time.Time) (Source, error) {
	if s.URL == nil {
		return nil, errNoURL
	}
	client, err := newHTTPClient(s)
	if err != nil {
		return nil, err
	}
	return &httpJSON{
		source:  s,
		client:  client,
		breaker: newBreaker(now),
		login:   newHTTPLogin(s, now),
		slots:   newSlots(s.MaxConnections, o.Waited),
		sizes:   map[string]int{},
	}, nil
}

// Query implements [Source]. The end of a request, be it by ctx or by the
// timeout, closes its connection, which is how an HTTP server learns of it. A
// GET or HEAD whose connection, kept from an earlier request, ends before any
// answer is sent again once: mostly it was closed for being idle.
func (s *httpJSON) Query(ctx context.Context, q config.Query, each func(*Row) error) error {
	return s.named(ctx, q, func(ctx context.Context) error {
		request, err := parseJSONRequest(s.source, q)
		if err != nil {
			return err
		}
		each := bounded(each, s.source.MaxResultBytes)
		if request.method == http.MethodHead {
			return s.head(ctx, q, request, each)
		}
		return s.ask(ctx, q, request, func(ctx context.Context, answer *http.Response, body []byte, secrets *httpSecrets) error {
			document := withoutMark(unsafe.String(unsafe.SliceData(body), len(body)))
			if err := checkJSON(document); err != nil {
				return fmt.Errorf("the answer is no JSON: %w%s", err, describeAnswer(answer, body, secrets))
			}
			// Paths are run by a library, on what anybody may have sent.
			return guard(func() error {
				table, err := newJSONTable(q.JSON, s.source.BodySizeLimit)
				if err != nil {
					return err
				}
				return table.read(ctx, document, each)
			})
		})
	})
}

// Ping implements [Source]. Any answer to a HEAD of the url will do, but one
// that refuses the login.
func (s *httpJSON) Ping(ctx context.Context) error {
	q := config.Query{Name: pingName, SQL: http.MethodHead, Timeout: s.source.Timeout}
	return s.named(ctx, q, func(ctx context.Context) error {
		request, err := parseJSONRequest(s.source, q)
		if err != nil {
			return err
		}
		return s.head(ctx, q, request, func(*Row) error { return nil })
	})
}

// Close implements [Source].
func (s *httpJSON) Close() error {
	s.life.close()
	s.client.close()
	return nil
}

// named runs fn, which Close ends and waits for, and names source and query in
// its error.
func (s *httpJSON) named(ctx context.Context, q config.Query, fn func(context.Context) error) error {
	ctx, end, err := s.life.begin(ctx)
	if err == nil {
		defer end()
		err = fn(ctx)
	}
	return queryError(ctx, s.source.Name, q, err)
}

// headColumns are those of the row that a HEAD gives.
var headColumns = []string{"status", "content_length", "last_modified", "seconds"}

// head hands on what a HEAD tells, whatever the status is.
func (s *httpJSON) head(ctx context.Context, q config.Query, request httpRequest, each func(*Row) error) error {
	began := time.Now()
	return s.ask(ctx, q, request, func(_ context.Context, answer *http.Response, _ []byte, _ *httpSecrets) error {
		row := Row{headColumns, []Value{IntValue(int64(answer.StatusCode)), {}, {}, FloatValue(time.Since(began).Seconds())}}
		if answer.ContentLength >= 0 {
			row.Values[1] = IntValue(answer.ContentLength)
		}
		if at, err := http.ParseTime(answer.Header.Get("Last-Modified")); err == nil {
			row.Values[2] = TimeValue(at)
		}
		return each(&row)
	})
}

// ask sends the request of q when there is a slot for it, and has use read the
// answer, until the context that it is given ends. The body is valid until use
// returns. No error tells secrets.
func (s *httpJSON) ask(ctx context.Context, q config.Query, request httpRequest, use func(context.Context, *http.Response, []byte, *httpSecrets) error) error {
	if err := s.slots.take(ctx, q.Timeout); err != nil {
		return err
	}
	defer s.slots.give()
	if q.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, q.Timeout, &timeoutError{q.Timeout})
		defer cancel()
	}
	request.header.Set("User-Agent", "sql2metrics/"+version.Version+" "+whose(s.source.Name, q))
	b := s.body(q)
	defer s.release(b)
	var (
		answer *http.Response
		failed error // although the server was there
	)
	err := s.login.try(ctx, func() error {
		return s.breaker.try(ctx, func() (err error) {
			answer, err = s.client.exchange(ctx, request, b)
			failed, err = s.reached(ctx, err)
			return err
		})
	})
	switch {
	case err != nil:
		return err
	case failed != nil && (answer == nil || request.method != http.MethodHead):
		return explainLost(failed)
	}
	body := b.take()
	if failed == nil {
		s.remember(q, len(body))
	}
	return b.secrets.cover(use(ctx, answer, body, b.secrets))
}

// reached tells errors of an exchange that are the query's own affair from those
// of a server that could not be reached or refused the login.
func (s *httpJSON) reached(ctx context.Context, err error) (failed, unreached error) {
	var status *statusError
	switch {
	case errors.As(err, new(*ConnectError)), errors.Is(ctx.Err(), context.Canceled):
		return nil, err
	case errors.As(err, &status) && status.code == http.StatusUnauthorized:
		return nil, &ConnectError{Source: s.source.Name, Err: &loginError{err}}
	}
	return err, nil
}

// explainLost says what to make of a connection that ended too early.
func explainLost(err error) error {
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, lost) {
			return fmt.Errorf("connection ended during the statement; the server's log may say why: %w", err)
		}
	}
	return err
}

// keptJSON is how large a buffer may be to wait for the next answer: what the
// rounds of many queries need, and not what a large answer needs for a moment.
const keptJSON = 256 << 10

// body returns what reads the answer to q, made for one a little longer than the
// last.
func (s *httpJSON) body(q config.Query) *httpBody {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := new(httpBody)
	if last := len(s.idle) - 1; last >= 0 {
		b, s.idle = s.idle[last], s.idle[:last]
	}
	size := s.sizes[sizeKey(q)]
	b.size = size + size/8
	return b
}

// release takes a body back. Nobody reads its answer any more.
func (s *httpJSON) release(b *httpBody) {
	if cap(b.buffer) > keptJSON {
		b.buffer = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, b)
}

// remember keeps the size of the answer to q for the next.
func (s *httpJSON) remember(q config.Query, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[sizeKey(q)] = size
}

func sizeKey(q config.Query) string { return q.Collector + "/" + q.Name }

// whose says in a comment of RFC 9110 who asks, for the log of a server. It
// cannot be ended by what stands in the names.
func whose(source string, q config.Query) string {
	text := "(source=" + plainName(source)
	if q.Collector != "" {
		text += "; collector=" + plainName(q.Collector)
	}
	return text + "; query=" + plainName(q.Name) + ")"
}

// withoutMark leaves out the byte order mark that some servers begin with.
func withoutMark(document string) string { return strings.TrimPrefix(document, "\uFEFF") }

// describeAnswer says how an answer that is no JSON calls itself, and begins.
func describeAnswer(answer *http.Response, body []byte, secrets *httpSecrets) string {
	text := ""
	if kind := answer.Header.Get("Content-Type"); kind != "" {
		text = "; its Content-Type is " + secrets.excerpt([]byte(kind))
	}
	if len(body) > 0 {
		text += "; it begins with " + secrets.excerpt(body[:min(len(body), maxBeginning)])
	}
	if answer.StatusCode != http.StatusOK {
		text += "; its status is " + statusText(answer.StatusCode)
	}
	return text
}
