package sources

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"sql2metrics/config"
)

const (
	// clientName is by which a DBA finds our connections in CLIENT LIST.
	clientName = "sql2metrics"

	// maxGreeting is how many bytes each answer of a server may have until it has
	// taken the login.
	maxGreeting = 64 << 10
)

var (
	errOverLimit = errors.New("reply is over the limit")
	errForeign   = errors.New("what answers is no Redis server; check host and port")
)

// greet encrypts the connection and logs in. Nothing of it is refused by a
// server that is busy with a script, or to an account with few rights.
func (n *redisNode) greet(ctx context.Context, s config.Source, network string, login redisLogin) error {
	host, _, _ := net.SplitHostPort(n.address)
	encrypt, err := tlsConfig(redisTLS(s.TLS), host)
	if err != nil {
		return err
	}
	n.guard = &redisGuard{Conn: n.socket, greeting: true}
	if encrypt != nil && network != "unix" {
		encrypted := tls.Client(n.socket, encrypt)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return err
		}
		n.guard.Conn = encrypted
	}
	n.client = redis.NewClient(&redis.Options{
		Addr:                  n.address,
		Dialer:                func(context.Context, string, string) (net.Conn, error) { return n.guard, nil },
		Protocol:              2, // which version it is makes no difference to raw replies
		PoolSize:              1,
		PipelinePoolSize:      -1,
		MaxRetries:            -1,
		DialerRetries:         1,
		ReadTimeout:           -1, // ours ends the socket
		WriteTimeout:          -1,
		ConnMaxIdleTime:       -1,
		ContextTimeoutEnabled: true,
		DisableIdentity:       true, // it would be an error in the statistics of old servers
	})
	n.conn = n.client.Conn()
	err = n.logIn(ctx, login)
	if errors.As(err, new(*limitError)) {
		return errForeign
	}
	return err
}

// logIn has the server speak RESP3 if it can. One refused login is one failed
// login in the server's statistics, so AUTH is for servers without HELLO alone:
// those of before version 6 and some proxies, each of which says so in words of
// its own.
func (n *redisNode) logIn(ctx context.Context, login redisLogin) error {
	password := login.password.Reveal()
	hello, auth := []any{"HELLO", "3"}, []any(nil)
	switch {
	case login.user != "":
		hello, auth = append(hello, "AUTH", login.user, password), []any{"AUTH", login.user, password}
	case password != "":
		hello, auth = append(hello, "AUTH", "default", password), []any{"AUTH", password}
	}
	answer, said := n.do(ctx, append(hello, "SETNAME", clientName)...)
	switch {
	case said == nil:
		n.role = roleOf(answer)
		return nil
	case isLogin(said) || !errors.As(said, new(redisError)):
		return said
	}
	if auth != nil {
		if _, err := n.do(ctx, auth...); err != nil {
			return n.lastWords(said, err)
		}
	}
	// The name is a courtesy, but here a server without a login asks for one.
	if _, err := n.do(ctx, "CLIENT", "SETNAME", clientName); isLogin(err) || n.ended.Load() {
		return n.lastWords(said, err)
	}
	return nil
}

// lastWords returns what a server said before it hung up, such as that it has
// too many clients, or else err.
func (n *redisNode) lastWords(said, err error) error {
	if n.ended.Load() {
		return fmt.Errorf("%w, and hung up", said)
	}
	return err
}

// redisTLS returns how to encrypt where nothing says so: not at all, as the
// protocol cannot ask a server for it.
func redisTLS(t config.TLS) config.TLS {
	if t.Mode == "prefer" || t.Mode == "allow" {
		t.Mode = "disable"
	}
	return t
}

// roleOf returns what HELLO says that the server is: master, slave or sentinel.
func roleOf(hello reply) string {
	n, err := hello.list()
	for range n / 2 {
		if err != nil {
			break
		}
		var name, role []byte
		if name, err = hello.text(); err == nil && string(name) == "role" {
			role, _ = hello.text()
			return string(role)
		}
		err = hello.skip()
	}
	return ""
}

// isLogin tells whether the server refused the login.
func isLogin(err error) bool {
	if err == nil {
		return false
	}
	for _, code := range []string{"WRONGPASS", "NOAUTH", "invalid password", "without any password", "invalid username-password"} {
		if strings.Contains(err.Error(), code) {
			return true
		}
	}
	return false
}

// redisGuard lies between the driver and a server. It bounds what the driver
// reads, and keeps the driver from greeting the server: it would log in twice
// when it is refused, and make room for as many elements as an answer claims to
// have. That greeting gets its answer here, and the server one of ours.
type redisGuard struct {
	net.Conn
	left     int64  // bytes
	greeting bool   // the driver's is still to come
	answer   string // what is left of our answer to it
}

// Write implements [net.Conn].
func (g *redisGuard) Write(b []byte) (int, error) {
	if g.greeting {
		g.greeting, g.answer = false, "*0\r\n"
		return len(b), nil
	}
	return g.Conn.Write(b)
}

// Read implements [net.Conn]. After too much was read, nothing is.
func (g *redisGuard) Read(b []byte) (int, error) {
	if g.answer != "" {
		n := copy(b, g.answer)
		g.answer = g.answer[n:]
		return n, nil
	}
	if g.left < 0 {
		return 0, errOverLimit
	}
	n, err := g.Conn.Read(b)
	g.left -= int64(n)
	if g.left < 0 {
		return 0, errOverLimit
	}
	return n, err
}
