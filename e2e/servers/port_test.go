package servers

import (
	"errors"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// TestHoldPort lets others ask for free ports while one is held, with and
// without a listener.
func TestHoldPort(t *testing.T) {
	address := HoldPort(t)
	for range 3 {
		if c, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("connect to a port that is held: got %v, %v, want connection refused", c, err)
		}
		for range 2 {
			if other := HoldPort(t); other == address {
				t.Fatalf("%s is given to two", address)
			}
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Close(), Unlisten(l)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnlisten closes listeners while programs are started.
func TestUnlisten(t *testing.T) {
	address := HoldPort(t)
	stop := make(chan struct{})
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := exec.Command("true").Run(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	defer starting.Wait()
	defer close(stop)
	for range 300 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := Unlisten(l); err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("connect after the listener is closed: got %v, %v, want connection refused", c, err)
		}
	}
}
