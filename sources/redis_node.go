package sources

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/redis/go-redis/v9/push"

	"sql2metrics/config"
)

// maxGreeting is how many bytes a server may send before the first command.
const maxGreeting = 64 << 10

// redisNode is one connection to one server. go-redis speaks the protocol on a
// socket of ours: its own pool has this connection alone, dials nothing and
// retries nothing, and it reads a reply into buffer as it comes.
type redisNode struct {
	address string
	client  *redis.Client
	conn    *redis.Conn
	raw     net.Conn // as the system has it
	socket  net.Conn // the same, tracked
	guard   *redisGuard
	limit   int64 // bytes of a reply
	buffer  replyBuffer
	role    string                // as the server told it at login; empty if it is too old to
	flags   map[string]redisFlags // of the commands that were asked for
	version string                // once it was asked for
	ready   bool                  // the database is selected
	ended   atomic.Bool           // nothing more can be said on it
}

// redisLogin is how to log in, for Redis itself or for its Sentinels.
type redisLogin struct {
	user     string
	password config.Secret
}

// dialRedisNode connects to host:port, or to a socket when the address is a
// path.
func dialRedisNode(ctx context.Context, s config.Source, address string, login redisLogin, all *sockets) (*redisNode, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	n := &redisNode{address: address, raw: raw, socket: all.track(raw), limit: maxMessage, flags: make(map[string]redisFlags)}
	if s.MaxResultBytes > 0 {
		n.limit = s.MaxResultBytes
	}
	if err := n.greet(ctx, s, network, login); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// greet encrypts the connection and logs in. Nothing of it is refused by a
// server that is busy with a script, or to an account with few rights.
func (n *redisNode) greet(ctx context.Context, s config.Source, network string, login redisLogin) error {
	host, _, _ := net.SplitHostPort(n.address)
	encrypt, err := tlsConfig(redisTLS(s.TLS), host)
	if err != nil {
		return err
	}
	n.guard = &redisGuard{Conn: n.socket, left: maxGreeting, greeting: true}
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
		Username:              login.user,
		Password:              login.password.Reveal(),
		Protocol:              3,
		PoolSize:              1,
		PipelinePoolSize:      -1,
		MaxRetries:            -1,
		DialerRetries:         1,
		ReadTimeout:           -1, // ours ends the socket
		WriteTimeout:          -1,
		ConnMaxIdleTime:       -1,
		ContextTimeoutEnabled: true,
		// Each of these would be an error in the server's own statistics.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		// Nothing is ever pushed: no connection of ours subscribes or tracks.
		PushNotificationProcessor: push.NewVoidProcessor(),
	})
	n.conn = n.client.Conn()
	hello, err := n.do(ctx, "HELLO", "3", "SETNAME", clientName)
	var refused redisError
	if errors.As(err, &refused) && !isLogin(err) {
		// A server of before version 6: the driver has logged in without.
		_, err = n.do(ctx, "CLIENT", "SETNAME", clientName)
	} else if err == nil {
		n.role = roleOf(hello)
	}
	n.guard.greeting = false
	return err
}

// clientName is by which a DBA finds our connections in CLIENT LIST.
const clientName = "sql2metrics"

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

// do runs one command that answers at once. Its reply is good until the next.
func (n *redisNode) do(ctx context.Context, args ...any) (reply, error) {
	var r reply
	err := interruptible(ctx, func(context.Context) { n.hangUp() }, func() error {
		var err error
		r, err = n.exec(args)
		return err
	})
	return r, err
}

// exec sends a command and reads its reply, for as long as the socket is open.
func (n *redisNode) exec(args []any) (reply, error) {
	n.begin()
	ctx := context.Background()
	if err := n.conn.Process(ctx, redis.NewRawWriteToCmd(ctx, &n.buffer, args...)); err != nil {
		return reply{}, n.fail(err)
	}
	if err := n.finish(); err != nil {
		return reply{}, err
	}
	r := reply{n.buffer.data}
	look := r
	if _, err := look.next(); errors.As(err, new(redisError)) {
		return reply{}, err
	}
	return r, nil
}

// execAll sends commands together and reads their replies, which follow each
// other in what it returns.
func (n *redisNode) execAll(commands [][]any) (reply, error) {
	n.begin()
	ctx := context.Background()
	_, err := n.conn.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, args := range commands {
			_ = p.Process(ctx, redis.NewRawWriteToCmd(ctx, &n.buffer, args...))
		}
		return nil
	})
	if err != nil {
		return reply{}, n.fail(err)
	}
	if err := n.finish(); err != nil {
		return reply{}, err
	}
	return reply{n.buffer.data}, nil
}

func (n *redisNode) begin() {
	n.buffer.reset()
	if !n.guard.greeting {
		n.guard.left, n.guard.first = n.limit, true
	}
}

// finish ends the connection when the server said more than it was asked: what
// it would answer next belongs to nothing.
func (n *redisNode) finish() error {
	if !n.guard.greeting && n.limit-n.guard.left != int64(len(n.buffer.data)) {
		return n.fail(errForeign)
	}
	return nil
}

// fail takes the connection for lost after an error that is not the server's
// answer, and returns what to say of it.
func (n *redisNode) fail(err error) error {
	n.hangUp()
	if n.guard.left < 0 && !n.guard.greeting {
		return &limitError{n.limit}
	}
	return err
}

// hangUp ends whatever is under way on the connection.
func (n *redisNode) hangUp() {
	n.ended.Store(true)
	_ = n.socket.Close()
}

// close ends the connection. The driver's conn is not given back to its pool,
// which would log to standard error if there is something left to read.
func (n *redisNode) close() {
	n.hangUp()
	if n.client != nil {
		_ = n.client.Close()
	}
}

// isOpen tells whether the server has not ended the connection since it was
// last used: between commands it has nothing to say.
func (n *redisNode) isOpen() bool {
	if n.ended.Load() {
		return false
	}
	system, ok := n.raw.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := system.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK)
		return true
	})
	return err == nil && open
}

// redisGuard bounds what the driver reads.
type redisGuard struct {
	net.Conn
	left int64
	// greeting is until the first command of ours: the driver itself makes sense
	// of what it reads, and makes room for as many elements as it is told there
	// will be.
	greeting bool
	length   bool // the length of a list is being read
	digits   int  // that it has so far
	first    bool // nothing was read of the reply under way
	foreign  bool // what was read is from no Redis server
}

var (
	errOverLimit = errors.New("reply is over the limit")
	errForeign   = errors.New("what answers is no Redis server; check host and port")
)

// Read implements [net.Conn]. After too much was read, nothing is.
func (g *redisGuard) Read(b []byte) (int, error) {
	if err := g.spent(); err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(b)
	g.left -= int64(n)
	if n > 0 {
		// No reply to us begins with what nobody asked for. The driver would pass
		// over it, however deep it goes.
		g.foreign = g.greeting && g.isTooLong(b[:n]) || g.first && (b[0] == '|' || b[0] == '>')
		g.first = false
	}
	if spent := g.spent(); spent != nil {
		return 0, spent
	}
	return n, err
}

// spent returns why nothing more is read.
func (g *redisGuard) spent() error {
	switch {
	case g.foreign:
		return errForeign
	case g.left < 0:
		return errOverLimit
	}
	return nil
}

// isTooLong tells whether a length of more than five digits begins in text or
// goes on in it.
func (g *redisGuard) isTooLong(text []byte) bool {
	for _, c := range text {
		switch {
		case strings.IndexByte("*%~>|$=!", c) >= 0:
			g.length, g.digits = true, 0
		case g.length && '0' <= c && c <= '9':
			if g.digits++; g.digits > 5 {
				return true
			}
		default:
			g.length = false
		}
	}
	return false
}

// interruptible runs fn and calls end, in a goroutine, when ctx ends before. It
// returns when both have: the context of end is over when fn has returned.
func interruptible(ctx context.Context, end func(context.Context), fn func() error) error {
	ending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end(ending)
	})
	err := fn()
	if !stop() {
		cancel()
		<-ended
	}
	return err
}
