package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// HoldPort takes a free port of the loopback interface until the test ends, and
// returns its address. It does not listen: whoever connects is refused, unless
// the test listens at the address, as often as it likes. A port that is only
// closed may be another process's when it is to be opened again.
func HoldPort(tb testing.TB) (address string) {
	tb.Helper()
	fd, port, err := bindPort()
	if err != nil {
		tb.Fatalf("hold a port: %v", err)
	}
	tb.Cleanup(func() { _ = syscall.Close(fd) })
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// Unlisten closes a listener of the test's own and returns when whoever
// connects is refused and the address may be listened at again. After a plain
// Close neither is sure where tests start programs: a child has all of our
// sockets until it has executed its program, and connections come in meanwhile.
func Unlisten(l net.Listener) error {
	err := l.Close()
	for deadline := time.Now().Add(startWait); ; time.Sleep(time.Millisecond) {
		c, dialErr := net.Dial("tcp", l.Addr().String())
		switch {
		case errors.Is(dialErr, syscall.ECONNREFUSED):
			return err
		case dialErr == nil:
			_ = c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("listeners of %s are left: %w", l.Addr(), errors.Join(err, dialErr))
		}
	}
}

// bindPort binds a socket with SO_REUSEADDR, as the listeners of package net
// have it: then a socket that listens may have the same address.
func bindPort() (fd, port int, err error) {
	syscall.ForkLock.RLock() // no child may have it
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, 0, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			_ = syscall.Close(fd)
		}
	}()
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, 0, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, 0, os.NewSyscallError("bind", err)
	}
	own, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, 0, os.NewSyscallError("getsockname", err)
	}
	return fd, own.(*syscall.SockaddrInet4).Port, nil
}
