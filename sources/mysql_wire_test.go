package sources_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	"sql2metrics/config"
	"sql2metrics/sources"
)

// There is no MySQL among Debian's packages. mysqlWire speaks its protocol as
// far as a source needs it, to show what a MySQL would be told; it proves
// nothing of what one makes of that.
type mysqlWire struct {
	answer func(statement string) []byte // nil: OK to SET, a row to what else there is

	mu         sync.Mutex
	statements []string
}

const mysqlVersion = "8.0.36-0ubuntu0.22.04.1"

func (w *mysqlWire) serve(c net.Conn) {
	const (
		capabilities = 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000 // database, protocol 4.1, transactions, secure login, plugins
		autocommit   = 2
	)
	greeting := []byte("\x0a" + mysqlVersion + "\x00\x07\x00\x00\x00" + "12345678\x00")
	greeting = binary.LittleEndian.AppendUint16(greeting, capabilities&0xffff)
	greeting = append(greeting, 45, autocommit, 0)
	greeting = binary.LittleEndian.AppendUint16(greeting, capabilities>>16)
	greeting = append(greeting, "\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"+"123456789012\x00"+"mysql_native_password\x00"...)
	if _, err := c.Write(mysqlPackets(0, greeting)); err != nil {
		return
	}
	for login := true; ; login = false {
		var header [4]byte
		if _, err := io.ReadFull(c, header[:]); err != nil {
			return
		}
		packet := make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
		if _, err := io.ReadFull(c, packet); err != nil {
			return
		}
		reply := mysqlPackets(header[3]+1, mysqlOK)
		if !login && packet[0] == 3 {
			reply = w.run(string(packet[1:]))
		}
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}

func (w *mysqlWire) run(statement string) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(statement, "CONNECTION_ID()") {
		return mysqlResult("7", mysqlVersion, "SYSTEM", "UTC", "0")
	}
	w.statements = append(w.statements, statement)
	if w.answer != nil {
		if reply := w.answer(statement); reply != nil {
			return reply
		}
	}
	if strings.HasPrefix(statement, "SET ") {
		return mysqlPackets(1, mysqlOK)
	}
	return mysqlResult("1")
}

// since returns the statements from the n-th on.
func (w *mysqlWire) since(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.statements[min(n, len(w.statements)):]...)
}

var (
	mysqlOK  = []byte{0, 0, 0, 2, 0, 0, 0}
	mysqlEOF = []byte{0xfe, 0, 0, 2, 0}
)

func mysqlErr(code uint16, text string) []byte {
	return append(binary.LittleEndian.AppendUint16([]byte{0xff}, code), "#HY000"+text...)
}

// mysqlResult is a result of one row of texts.
func mysqlResult(cells ...string) []byte {
	var row []byte
	for _, cell := range cells {
		row = append(append(row, byte(len(cell))), cell...)
	}
	return mysqlPackets(1, append(mysqlColumns(len(cells)), row, mysqlEOF)...)
}

// mysqlColumns says that n columns of VARCHAR come.
func mysqlColumns(n int) [][]byte {
	packets := [][]byte{{byte(n)}}
	for range n {
		packets = append(packets, []byte("\x03def\x00\x00\x00\x01c\x00\x0c\x2d\x00\xff\x00\x00\x00\xfd\x00\x00\x00\x00\x00"))
	}
	return append(packets, mysqlEOF)
}

// mysqlPackets numbers packets from sequence on.
func mysqlPackets(sequence byte, packets ...[]byte) []byte {
	var b bytes.Buffer
	for i, p := range packets {
		b.Write([]byte{byte(len(p)), byte(len(p) >> 8), byte(len(p) >> 16), sequence + byte(i)})
		b.Write(p)
	}
	return b.Bytes()
}

func openWire(t *testing.T, w *mysqlWire) sources.Source {
	t.Helper()
	return open(t, through(t, config.Source{
		Name: "my", Type: config.TypeMySQL, User: "u", MaxConnections: 1, Timeout: 30 * time.Second,
	}, fakeServer(t, w.serve)))
}

// MySQL takes the time limit as a variable of the session, which is set when it
// changes.
func TestMySQLSessionLimit(t *testing.T) {
	w := &mysqlWire{}
	s := openWire(t, w)
	const named = "/* sql2metrics source=my query=q */ SELECT 1"
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.since(0); len(got) != 2 || !strings.Contains(got[0], "autocommit = 1") || !strings.Contains(got[0], "innodb_lock_wait_timeout = 2") ||
		got[1] != "SET SESSION TRANSACTION READ ONLY" {
		t.Errorf("a session begins with %q", got)
	}
	for _, step := range []struct {
		limit time.Duration
		want  []string
	}{
		{25500*time.Millisecond - 1, []string{"SET SESSION max_execution_time=25500", named}},
		{25500 * time.Millisecond, []string{named}},
		{20 * time.Second, []string{"SET SESSION max_execution_time=20000", named}},
	} {
		before := len(w.since(0))
		q := query("SELECT 1")
		q.Timeout = step.limit
		if err := s.Query(t.Context(), q, ignore); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(step.want, w.since(before)); diff != "" {
			t.Errorf("limit %s (-want +got):\n%s", step.limit, diff)
		}
	}
}

// A MySQL before 5.7 has no such variable, which is no reason to fail.
func TestMySQLWithoutLimit(t *testing.T) {
	w := &mysqlWire{answer: func(statement string) []byte {
		if strings.Contains(statement, "max_execution_time") {
			return mysqlPackets(1, mysqlErr(1193, "Unknown system variable"))
		}
		return nil
	}}
	s := openWire(t, w)
	for range 2 {
		if got := read(t, s, "SELECT 1"); !cmp.Equal(got, []string{"1"}) {
			t.Error(got)
		}
	}
	if got := strings.Count(strings.Join(w.since(0), "\n"), "max_execution_time"); got != 1 {
		t.Errorf("it was asked %d times", got)
	}
}

func TestMySQLErrorsOfLimits(t *testing.T) {
	for name, test := range map[string]struct {
		code    uint16
		timeout bool
	}{
		"over the limit":   {3024, true},
		"killed by others": {1317, false},
	} {
		t.Run(name, func(t *testing.T) {
			var limit time.Duration = 1
			w := &mysqlWire{answer: func(statement string) []byte {
				if strings.HasSuffix(statement, "SELECT 1") {
					return mysqlPackets(1, mysqlErr(test.code, "Query execution was interrupted"))
				}
				return nil
			}}
			if !test.timeout {
				limit = time.Minute
			}
			q := query("SELECT 1")
			q.Timeout = limit
			if err := openWire(t, w).Query(t.Context(), q, ignore); err == nil || errors.Is(err, context.DeadlineExceeded) != test.timeout {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// The connection ends in the middle of a row, or what comes is no row.
func TestMySQLBrokenResults(t *testing.T) {
	whole := mysqlResult("word")
	for name, answer := range map[string][]byte{
		"cut":       whole[:len(whole)-12],
		"no header": []byte("\x01\x00\x00"),
		"short row": mysqlPackets(1, append(mysqlColumns(1), []byte("\x09word"), mysqlEOF)...),
		"garbage":   []byte("\x05\x00\x00\x01hello\x05\x00\x00\x02world"),
		"sequence":  mysqlPackets(9, mysqlOK),
	} {
		t.Run(name, func(t *testing.T) {
			w := &mysqlWire{answer: func(statement string) []byte {
				if strings.HasSuffix(statement, "SELECT 1") {
					return answer
				}
				return nil
			}}
			s := open(t, through(t, config.Source{Name: "my", Type: config.TypeMySQL, User: "u", MaxConnections: 1, Timeout: 30 * time.Second},
				fakeServer(t, func(c net.Conn) { w.serve(&closesAfter{c, answer}) })))
			err := s.Query(t.Context(), query("SELECT 1"), ignore)
			if err == nil || errors.As(err, new(*sources.ConnectError)) {
				t.Fatalf("error is %v", err)
			}
			wantOnce(t, err, "my")
			t.Log(err)
		})
	}
}

// A row that is too long is given up before it is read to its end, which may
// never come.
func TestMySQLEndlessRow(t *testing.T) {
	const limit = 1 << 20
	columns := mysqlPackets(1, mysqlColumns(1)...)
	w := &mysqlWire{answer: func(statement string) []byte {
		if strings.HasSuffix(statement, "SELECT 1") {
			return append(append(columns, 0xff, 0xff, 0xff, 4), make([]byte, 2*limit)...)
		}
		return nil
	}}
	s := open(t, through(t, config.Source{Name: "my", Type: config.TypeMySQL, User: "u", MaxConnections: 1, MaxResultBytes: limit, Timeout: 30 * time.Second},
		fakeServer(t, w.serve)))
	err := s.Query(t.Context(), query("SELECT 1"), ignore)
	if err == nil || !strings.Contains(err.Error(), "limit of 1048576 bytes") {
		t.Errorf("error is %v", err)
	}
	wantOnce(t, err, "my")
}

// A connection on which something came that is no answer is not used again: what
// comes next may be the rest of it.
func TestMySQLOutOfStep(t *testing.T) {
	w := &mysqlWire{answer: func(statement string) []byte {
		if strings.HasSuffix(statement, "SELECT 1") {
			return mysqlPackets(1, append(mysqlColumns(1), []byte("\x09word"), mysqlEOF)...)
		}
		return nil
	}}
	s := openWire(t, w)
	if err := s.Query(t.Context(), query("SELECT 1"), ignore); !errors.Is(err, mysql.ErrMalformPkt) {
		t.Errorf("error is %v", err)
	}
	before := len(w.since(0))
	read(t, s, "SELECT 2")
	if got := w.since(before); len(got) < 2 || !strings.HasPrefix(got[0], "SET ") {
		t.Errorf("the next query has the server run %q, and not on a new connection", got)
	}
}

// closesAfter closes the connection once it has written last.
type closesAfter struct {
	net.Conn
	last []byte
}

func (c *closesAfter) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if bytes.Equal(b, c.last) {
		_ = c.Close()
	}
	return n, err
}
