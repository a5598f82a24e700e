package sources

import (
	"bytes"
	"fmt"
	"io"
	"net"
)

// maxMySQLGreeting bounds the packet with which a server begins. Real ones have some
// hundred bytes.
const maxMySQLGreeting = 4 << 10

// mysqlGreeter hands the first packet of a server to the driver only when it is
// whole: the driver takes its length on trust, and panics over one that is too
// short, which leaves a goroutine behind.
type mysqlGreeter struct {
	net.Conn
	begun bool
	left  []byte // of the packet, not handed on yet
}

// Read implements [net.Conn].
func (g *mysqlGreeter) Read(b []byte) (int, error) {
	if !g.begun {
		g.begun = true
		var err error
		if g.left, err = readGreeting(g.Conn); err != nil {
			return 0, err
		}
	}
	if len(g.left) > 0 {
		n := copy(b, g.left)
		g.left = g.left[n:]
		return n, nil
	}
	return g.Conn.Read(b)
}

// readGreeting reads one packet and its header.
func readGreeting(r io.Reader) ([]byte, error) {
	packet := make([]byte, 4, 256)
	if _, err := io.ReadFull(r, packet); err != nil {
		return nil, err
	}
	length := int(packet[0]) | int(packet[1])<<8 | int(packet[2])<<16
	if length > maxMySQLGreeting {
		return nil, noMySQL(packet)
	}
	packet = append(packet, make([]byte, length)...)
	if _, err := io.ReadFull(r, packet[4:]); err != nil {
		return nil, err
	}
	if !isGreeting(packet[4:]) {
		return nil, noMySQL(packet)
	}
	return packet, nil
}

// isGreeting tells whether all is there that the driver looks for in p: an
// error, or protocol version 10 with a version of the server, followed by the
// fixed part that every server since 4.1 sends.
func isGreeting(p []byte) bool {
	const fixed = 44
	if len(p) > 0 && p[0] == 0xff {
		return len(p) >= 9 // a code and a state
	}
	version := bytes.IndexByte(p, 0)
	rest := len(p) - version - 1
	return version > 0 && p[0] >= 10 && rest >= fixed
}

func noMySQL(packet []byte) error {
	return fmt.Errorf("what answers is no MySQL server, it begins with %.20q; check host and port", packet)
}
