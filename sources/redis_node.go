package sources

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/redis/go-redis/v9"

	"sql2metrics/config"
)

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
	n := &redisNode{address: address, raw: raw, socket: all.track(raw), limit: maxGreeting, flags: make(map[string]redisFlags)}
	if err := n.greet(ctx, s, network, login); err != nil {
		n.close()
		return nil, err
	}
	n.limit = maxMessage
	if s.MaxResultBytes > 0 {
		n.limit = s.MaxResultBytes
	}
	return n, nil
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
	n.buffer.reset(n.limit)
	n.guard.left = n.limit
}

// finish ends the connection when the server said more than it was asked: what
// it would answer next belongs to nothing.
func (n *redisNode) finish() error {
	if n.limit-n.guard.left != int64(len(n.buffer.data)) {
		return n.fail(errForeign)
	}
	return nil
}

// fail takes the connection for lost after an error that is not the server's
// answer, and returns what to say of it.
func (n *redisNode) fail(err error) error {
	n.hangUp()
	if n.buffer.over || n.guard.left < 0 {
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
