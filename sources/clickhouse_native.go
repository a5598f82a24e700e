package sources

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"

	"sql2metrics/config"
)

// chClient is the name by which servers show us.
const chClient = "sql2metrics"

// chNative is a connection of the native protocol. What it sends is spelled by
// the driver's packets; what it reads it reads by itself, so that
//   - a result costs no allocation per cell, where the driver makes a string of
//     each text,
//   - the server is seen to end what was cancelled, where the driver closes the
//     socket and leaves, and
//   - the time limit is the one that was asked for, where the driver replaces it
//     by the context's and five seconds.
type chNative struct {
	chSession
	conn       net.Conn
	r          *chReader
	out        chproto.Buffer
	compressor *compress.Writer // nil: blocks are not compressed
	revision   uint64
	reached    bool // the server was there to take the statement under way
	dead       bool // the socket failed
	spent      bool // no other statement may run on it
	block      chBlock
}

// newCHNative logs in on conn.
func newCHNative(ctx context.Context, conn net.Conn, s config.Source) (*chNative, error) {
	c := &chNative{conn: conn, r: newCHReader(conn, s.MaxResultBytes)}
	switch s.Compression {
	case "lz4":
		c.compressor = compress.NewWriter(0, compress.LZ4)
	case "zstd":
		c.compressor = compress.NewWriter(0, compress.ZSTD)
	}
	unhook := c.hangUpAfter(ctx)
	err := c.handshake(s)
	unhook()
	if err != nil {
		return nil, err
	}
	if err := c.chSession.ask(ctx, c); err != nil {
		return nil, err
	}
	for i, sql := range s.StartupSQL {
		if err := c.run(ctx, chStatement{sql: sql}, noRow); err != nil {
			return nil, startupError(i, err)
		}
	}
	return c, nil
}

// hangUpAfter fails all reads and writes once ctx has ended, until stop, which
// returns when nothing of it is left.
func (c *chNative) hangUpAfter(ctx context.Context) (stop func()) {
	return afterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
}

// afterFunc is [context.AfterFunc] with a stop that waits for fn if it has
// begun.
func afterFunc(ctx context.Context, fn func()) (stop func()) {
	var done sync.WaitGroup
	done.Add(1)
	cancel := context.AfterFunc(ctx, func() {
		defer done.Done()
		fn()
	})
	return func() {
		if cancel() {
			done.Done()
		}
		done.Wait()
	}
}

// handshake exchanges names and versions and logs in.
func (c *chNative) handshake(s config.Source) error {
	c.out.PutByte(proto.ClientHello)
	proto.ClientHandshake{
		ProtocolVersion: proto.DBMS_TCP_PROTOCOL_VERSION,
		ClientName:      chClient,
		ClientVersion:   proto.Version{Major: 1},
	}.Encode(&c.out)
	c.out.PutString(s.Database)
	c.out.PutString(s.User)
	c.out.PutString(s.Password.Reveal())
	if err := c.flush(); err != nil {
		return err
	}
	c.r.limit(chMaxGreeting)
	packet, err := c.r.uvarint()
	if err != nil {
		return err
	}
	switch packet {
	case proto.ServerHello:
	case proto.ServerException:
		return c.exception()
	default:
		return fmt.Errorf("what answers does not speak ClickHouse's native protocol (it begins with byte %d); check port: native is 9000, with TLS 9440", packet)
	}
	if err := c.hello(); err != nil {
		return err
	}
	if c.revision >= proto.DBMS_MIN_PROTOCOL_VERSION_WITH_ADDENDUM {
		c.out.PutString("") // quota key
		return c.flush()
	}
	return nil
}

// chMaxGreeting bounds what a server may say before it is logged in to.
const chMaxGreeting = 64 << 10

// hello reads who the server is.
func (c *chNative) hello() error {
	if _, err := c.r.text(); err != nil { // name of the product
		return err
	}
	var version [3]uint64 // major, minor, revision
	for i := range version {
		var err error
		if version[i], err = c.r.uvarint(); err != nil {
			return err
		}
	}
	c.revision = min(version[2], proto.DBMS_TCP_PROTOCOL_VERSION)
	if c.revision < proto.DBMS_MIN_REVISION_WITH_CLIENT_INFO {
		return fmt.Errorf("server has revision %d of the protocol, which is too old; %d is the first that works", version[2], proto.DBMS_MIN_REVISION_WITH_CLIENT_INFO)
	}
	for _, since := range []uint64{proto.DBMS_MIN_REVISION_WITH_SERVER_TIMEZONE, proto.DBMS_MIN_REVISION_WITH_SERVER_DISPLAY_NAME} {
		if c.revision < since {
			continue
		}
		if _, err := c.r.text(); err != nil {
			return err
		}
	}
	if c.revision >= proto.DBMS_MIN_REVISION_WITH_VERSION_PATCH {
		if _, err := c.r.uvarint(); err != nil {
			return err
		}
	}
	return nil
}

// flush sends what was written.
func (c *chNative) flush() error {
	_, err := c.conn.Write(c.out.Buf)
	c.out.Reset()
	return err
}

// send sends a statement, and a ping before it: the server answers that one
// before it begins, so that whoever got no answer knows that nothing has run.
func (c *chNative) send(s chStatement) error {
	q := proto.Query{
		ID:                       s.id,
		ClientName:               chClient,
		ClientVersion:            proto.Version{Major: 1},
		ClientTCPProtocolVersion: proto.DBMS_TCP_PROTOCOL_VERSION,
		Body:                     s.sql,
		Compression:              c.compressor != nil,
		InitialAddress:           c.conn.LocalAddr().String(),
	}
	for _, setting := range s.settings {
		q.Settings = append(q.Settings, proto.Setting{Key: setting.name, Value: setting.value, Important: true})
	}
	c.out.PutByte(proto.ClientPing)
	c.out.PutByte(proto.ClientQuery)
	if err := q.Encode(&c.out, c.revision); err != nil {
		return fmt.Errorf("write query: %w", err)
	}
	// An empty block says that no tables come along.
	c.out.PutByte(proto.ClientData)
	c.out.PutString("")
	start := len(c.out.Buf)
	if err := proto.NewBlock().EncodeHeader(&c.out, c.revision); err != nil {
		return fmt.Errorf("write query: %w", err)
	}
	if c.compressor != nil {
		if err := c.compressor.Compress(c.out.Buf[start:]); err != nil {
			return fmt.Errorf("write query: %w", err)
		}
		c.out.Buf = append(c.out.Buf[:start], c.compressor.Data...)
	}
	return c.flush()
}

// run implements [chConn]. A statement that is stopped ends the connection: the
// server may have ended it by itself at the same moment, and would take the
// cancel for that of the next.
func (c *chNative) run(ctx context.Context, s chStatement, each func(*Row) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.reached = false
	unhook := c.hangUpAfter(ctx)
	err := c.send(s)
	unhook()
	if err != nil {
		c.dead = true
		return err
	}
	// From here on the end of ctx reaches the server.
	unhook = afterFunc(ctx, c.cancel)
	stopped, err := c.read(ctx, each)
	unhook()
	if stopped == nil {
		stopped = context.Cause(ctx)
	}
	var said *chError
	switch {
	case err == nil && stopped == nil:
		return nil
	case stopped == nil && errors.As(err, &said):
		return err
	}
	c.spent = true
	switch {
	case err == nil || errors.As(err, &said):
		return stopped // and the server has said that it ended
	case stopped != nil:
		return &chOutlivedError{s.id, stopped}
	case c.r.failed:
		c.dead = true
		return err
	}
	// What comes next cannot be told from what was not understood.
	c.cancel()
	return &chOutlivedError{s.id, err}
}

// cancel asks the server to end the statement under way and gives it confirmWait
// to say that it has.
func (c *chNative) cancel() {
	_ = c.conn.SetDeadline(time.Now().Add(confirmWait))
	_, _ = c.conn.Write([]byte{proto.ClientCancel})
}

// read reads all that the server says of a statement. An error of each stops
// the statement; what the server then still sends is dropped. Any other error
// than a [*chError] leaves the connection out of step.
func (c *chNative) read(ctx context.Context, each func(*Row) error) (stopped, err error) {
	defer c.block.end()
	rows := chRows{most: c.r.row}
	for {
		c.r.limit(chMaxBlock)
		packet, err := c.r.uvarint()
		if err != nil {
			return stopped, err
		}
		switch packet {
		case proto.ServerPong:
			c.reached = true
		case proto.ServerData:
			err = c.data(&c.block, c.compressor != nil)
			if err == nil && stopped == nil && ctx.Err() == nil {
				if stopped = rows.each(&c.block, each); stopped != nil {
					c.cancel()
				}
			}
		case proto.ServerTotals, proto.ServerExtremes:
			err = c.data(&chBlock{}, c.compressor != nil)
		case proto.ServerLog, proto.ServerProfileEvents:
			err = c.data(&chBlock{}, false)
		case proto.ServerException:
			return stopped, c.exception()
		case proto.ServerEndOfStream:
			return stopped, nil
		case proto.ServerProgress:
			err = c.skipNumbers(3,
				proto.DBMS_MIN_REVISION_WITH_CLIENT_WRITE_INFO,
				proto.DBMS_MIN_REVISION_WITH_CLIENT_WRITE_INFO,
				proto.DBMS_MIN_PROTOCOL_VERSION_WITH_SERVER_QUERY_TIME_IN_PROGRES)
		case proto.ServerProfileInfo:
			err = c.skipNumbers(6) // two of them truths, of a byte each
		case proto.ServerTableColumns:
			_, err = c.r.text()
			if err == nil {
				_, err = c.r.text()
			}
		default:
			err = fmt.Errorf("server sent packet %d, which has no place here; is this a ClickHouse server?", packet)
		}
		if err != nil {
			return stopped, err
		}
	}
}

// data reads the block of a packet.
func (c *chNative) data(into *chBlock, compressed bool) error {
	if _, err := c.r.text(); err != nil { // name of a table
		return err
	}
	c.r.compressed(compressed)
	defer c.r.compressed(false)
	return into.decode(c.r, c.revision)
}

// skipNumbers reads n numbers, and one more for each revision that the server
// has reached.
func (c *chNative) skipNumbers(n int, since ...uint64) error {
	for _, revision := range since {
		if c.revision >= revision {
			n++
		}
	}
	for range n {
		if _, err := c.r.uvarint(); err != nil {
			return err
		}
	}
	return nil
}

// exception reads an error of the server, which may have others as its causes,
// and returns it as a [*chError].
func (c *chNative) exception() error {
	var first *chError
	for {
		code, err := c.r.bytes(4)
		if err != nil {
			return err
		}
		said := &chError{code: int(int32(chUnsigned(code)))}
		var texts [3]string // name, message, stack trace
		for i := range texts {
			text, err := c.r.text()
			if err != nil {
				return err
			}
			texts[i] = string(text)
		}
		said.message = chMessage(texts[1])
		if first == nil {
			first = said
		}
		if more, err := c.r.bool(); err != nil {
			return err
		} else if !more {
			return first
		}
	}
}

// answer implements [chConn].
func (c *chNative) answer(ctx context.Context) error {
	c.reached = false
	unhook := c.hangUpAfter(ctx)
	defer unhook()
	c.out.PutByte(proto.ClientPing)
	err := c.flush()
	for err == nil {
		var packet uint64
		c.r.limit(chMaxGreeting)
		if packet, err = c.r.uvarint(); err != nil {
			break
		}
		switch packet {
		case proto.ServerPong:
			c.reached = true
			return nil
		case proto.ServerProgress: // of the statement before
			err = c.skipNumbers(3,
				proto.DBMS_MIN_REVISION_WITH_CLIENT_WRITE_INFO,
				proto.DBMS_MIN_REVISION_WITH_CLIENT_WRITE_INFO,
				proto.DBMS_MIN_PROTOCOL_VERSION_WITH_SERVER_QUERY_TIME_IN_PROGRES)
		default:
			err = fmt.Errorf("server answered a ping with packet %d", packet)
		}
	}
	c.dead = true
	return err
}

func (c *chNative) alive() bool    { return !c.dead }
func (c *chNative) idle() bool     { return !c.dead && !c.spent }
func (c *chNative) accepted() bool { return c.reached }

// close implements [connection].
func (c *chNative) close() {
	c.dead = true
	_ = c.conn.SetDeadline(time.Now().Add(hangUpWait))
	_ = c.conn.Close()
}
