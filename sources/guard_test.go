package sources

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"sql2metrics/config"
)

// trusting is a connection of a driver that trusts what it reads.
type trusting struct {
	net.Conn
	closed bool
}

func (c *trusting) alive() bool    { return true }
func (c *trusting) idle() bool     { return true }
func (c *trusting) accepted() bool { return true }
func (c *trusting) close() {
	c.closed = true
	_ = c.Conn.Close()
}

// A panic in a driver is the error of one query. Its connection is not used
// again, and nothing of it stays open.
func TestGuard(t *testing.T) {
	now := time.Unix(1000, 0)
	var made []*trusting
	dialPanics := true
	read := func(length int) byte { return make([]byte, 4)[length] }
	p := newPool(config.Source{Name: "s", MaxConnections: 1}, Options{}, func() time.Time { return now },
		func(_ context.Context, all *sockets) (*trusting, error) {
			ours, theirs := net.Pipe()
			t.Cleanup(func() { _ = theirs.Close() })
			c := &trusting{Conn: all.track(ours)}
			made = append(made, c)
			if dialPanics {
				read(5)
			}
			return c, nil
		})
	defer p.close()
	use := func(fn func(*trusting) error) error { return p.use(t.Context(), time.Second, fn) }
	good := func(*trusting) error { return nil }

	err := use(good)
	if !errors.As(err, new(*ConnectError)) || !strings.Contains(err.Error(), "index out of range [5] with length 4 at guard_test.go:") {
		t.Errorf("error of a panic in a dial is %v", err)
	}
	if _, err := made[0].Write([]byte{1}); !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the socket is open: %v", err)
	}

	dialPanics = false
	now = now.Add(firstPause)
	if err := use(good); err != nil {
		t.Fatal(err)
	}
	err = use(func(*trusting) error { read(6); return nil })
	if err == nil || !strings.Contains(err.Error(), "index out of range [6]") {
		t.Errorf("error of a panic in a query is %v", err)
	}
	p.closing.Wait()
	if !made[1].closed {
		t.Error("the connection is kept")
	}
	if err := use(good); err != nil || len(made) != 3 {
		t.Errorf("after it: %v, %d connections", err, len(made))
	}
}
