package sources

import (
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sql2metrics/config"
)

// OpenHTTPJSON is [Open] with a clock of its own.
func OpenHTTPJSON(s config.Source, now func() time.Time) (Source, error) {
	return openHTTPJSON(s, Options{}, now)
}

// NobodyListens returns an address that refuses connections until the test
// ends: it is taken, so that no other server, of this process or another, comes
// to listen there.
func NobodyListens(t testing.TB) string {
	t.Helper()
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(s) })
	if err := syscall.Bind(s, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(s)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(at.(*syscall.SockaddrInet4).Port))
}

// Patiently tries a timeout that is to fire, and a longer one as long as it
// fires too early: while a busy machine has not come to what is to be timed.
func Patiently(timeout time.Duration, tooEarly func(timeout time.Duration) bool) {
	for tooEarly(timeout) && timeout < time.Minute {
		timeout *= 4
	}
}
