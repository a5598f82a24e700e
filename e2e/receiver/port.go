package receiver

import (
	"fmt"
	"os"
	"syscall"
	"testing"
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
