package sources

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"sql2metrics/config"
)

// chHTTP is a connection over HTTP: one socket that is kept open between
// requests. Results come as the blocks of the native protocol, in the form they
// have in a file. It sends what servers of all ages understand, so that it works
// from 18.16 on.
type chHTTP struct {
	chSession
	source  config.Source
	base    string // scheme and address
	client  *http.Client
	reached bool
	dead    bool // the socket failed
	spent   bool // no other statement may run on it
	again   bool // has been answered
}

func newCHHTTP(ctx context.Context, address string, encrypt *tls.Config, s config.Source, all *sockets) (*chHTTP, error) {
	transport := &http.Transport{
		MaxConnsPerHost:     1,
		MaxIdleConnsPerHost: 1,
		DisableCompression:  true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return chSocket(ctx, address, encrypt, all)
		},
	}
	c := &chHTTP{source: s, base: "http://" + address + "/", client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if encrypt != nil {
		// The socket is encrypted already.
		c.base = "https://" + address + "/"
		transport.DialTLSContext = transport.DialContext
	}
	if err := c.ask(ctx, c); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// run implements [chConn]. The server holds the answer back until it is whole,
// or has failed: one that fails half-way would look like one that is cut off.
func (c *chHTTP) run(ctx context.Context, s chStatement, each func(*Row) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.reached = false
	if c.again {
		// Whoever got no answer to this knows that nothing has run.
		if err := c.answer(ctx); err != nil {
			return err
		}
	}
	parameters := url.Values{"default_format": {"Native"}, "wait_end_of_query": {"1"}}
	if s.id != "" {
		parameters.Set("query_id", s.id)
	}
	if c.source.Database != "" {
		parameters.Set("database", c.source.Database)
	}
	for _, setting := range s.settings {
		parameters.Set(setting.name, fmt.Sprint(setting.value))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"?"+parameters.Encode(), strings.NewReader(s.sql))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("User-Agent", chClient)
	request.Header.Set("X-ClickHouse-User", c.source.User)
	if c.source.Password.IsSet() {
		request.Header.Set("X-ClickHouse-Key", c.source.Password.Reveal())
	}
	err = c.exchange(request, each)
	if err == nil || errors.As(err, new(*chError)) {
		return err
	}
	c.spent = true
	if ctx.Err() != nil {
		return &chOutlivedError{s.id, context.Cause(ctx)}
	}
	return err
}

// exchange sends a request and reads its answer to the end. The answer is whole
// when its first row comes: whatever stops the reading, nothing runs any more.
func (c *chHTTP) exchange(request *http.Request, each func(*Row) error) error {
	answer, err := c.client.Do(request)
	if err != nil {
		c.dead = true
		var sent *url.Error
		if errors.As(err, &sent) {
			err = sent.Err // the URL says nothing that helps
		}
		return err
	}
	defer answer.Body.Close()
	c.reached, c.again = true, true
	if answer.StatusCode != http.StatusOK {
		return chRefusal(answer)
	}
	r := newCHReader(answer.Body, c.source.MaxResultBytes)
	err = chReadAll(r, each)
	c.dead = r.failed
	return err
}

// answer implements [chConn].
func (c *chHTTP) answer(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"ping", nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	c.reached = false
	answer, err := c.client.Do(request)
	if err != nil {
		c.dead = true
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, chMaxGreeting)); err != nil {
		c.dead = true
		return err
	}
	c.reached = true
	return nil
}

// chCodeText finds the code in what a server says over HTTP.
var chCodeText = regexp.MustCompile(`^(?:[\w:]+\. )?Code: (\d+)[.,] (?:e\.code\(\) = -?\d+, )?`)

// chRefusal returns what the server says instead of a result.
func chRefusal(answer *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(answer.Body, chMaxGreeting))
	if err != nil {
		return err
	}
	said := string(text)
	found := chCodeText.FindStringSubmatch(said)
	if found == nil {
		line, _, _ := bufio.ScanLines(text, true)
		return fmt.Errorf("what answers is no ClickHouse: HTTP status %s (%.100q); check port: HTTP is 8123, with TLS 8443", answer.Status, text[:min(line, len(text))])
	}
	code, err := strconv.Atoi(found[1])
	if err != nil {
		return err
	}
	said = strings.TrimPrefix(said[len(found[0]):], "e.displayText() = ")
	return &chError{code, chMessage(said)}
}

func (c *chHTTP) alive() bool    { return !c.dead }
func (c *chHTTP) idle() bool     { return !c.dead && !c.spent }
func (c *chHTTP) accepted() bool { return c.reached }

// close implements [connection].
func (c *chHTTP) close() {
	c.dead = true
	c.client.CloseIdleConnections()
}
