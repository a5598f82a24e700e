package sources

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Whatever passes for a greeting, the driver can read.
func FuzzMySQLGreeting(f *testing.F) {
	fixed := "\x07\x00\x00\x0012345678\x00\xff\xf7"
	f.Add([]byte("\x0a8.0.36\x00" + fixed))
	f.Add([]byte("\x0a8.0.36\x00" + fixed + "\xff\x02\x00\xff\xdf\x15" + strings.Repeat("\x00", 10) + "123456789012\x00mysql_native_password\x00"))
	f.Add([]byte("\x0a8.0.36\x00" + fixed + "\xff\x02\x00\xff\xdf\x15" + strings.Repeat("\x00", 10) + "123456789012"))
	f.Add([]byte("\x0a8.0.36\x00" + fixed + "\xff"))
	f.Add([]byte("\xff\x10\x04Too many connections"))
	f.Add([]byte("\xff\x10\x04"))
	f.Add([]byte("\xff\x10\x04#12"))
	f.Add([]byte("\x0a8.0.36"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > maxMySQLGreeting {
			return
		}
		header := []byte{byte(len(packet)), byte(len(packet) >> 8), 0, 0}
		read, err := readGreeting(bytes.NewReader(append(header, packet...)))
		if err != nil {
			return
		}
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			_ = theirs.SetDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = theirs.Write(read)
		}()
		cfg := mysql.NewConfig()
		cfg.Logger = &mysql.NopLogger{}
		cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) { return ours, nil }
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := connector.Connect(t.Context()); err == nil {
			_ = c.Close()
		}
	})
}
