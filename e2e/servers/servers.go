// Package servers starts private, throw-away database servers for tests: on a
// free port of the loopback address, in a temporary folder, with no
// durability. A server ends with the test that started it, and with the test
// binary if that is killed.
package servers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startWait bounds how long a server may take to answer after its start, on a
// machine that is busy with other tests.
const startWait = 60 * time.Second

// Need returns the newest file that one of the patterns matches, such as
// /usr/lib/postgresql/*/bin/postgres. Without one the test is skipped with a
// word on what to install, or fails where E2E_REQUIRE=1 says that everything
// has to be there.
func Need(tb testing.TB, debianPackage string, patterns ...string) string {
	tb.Helper()
	path, err := find(debianPackage, patterns)
	if err != nil {
		if os.Getenv("E2E_REQUIRE") == "1" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	return path
}

func find(debianPackage string, patterns []string) (string, error) {
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("find %s: %w", pattern, err)
		}
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", fmt.Errorf("%s is missing: apt-get install %s", strings.Join(patterns, ", "), debianPackage)
}

// Eventually polls until ok returns true and fails the test, with a word on
// what did not happen, if it has not within 30 seconds. It is for what a real
// server does in its own time.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("did not happen in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// freePort returns a port of the loopback address that nobody uses. It is none
// of those from which the system takes the ports of clients: one of them could
// have it before the server does, or while the server is stopped.
func freePort() (int, error) {
	const first, last = 10000, 32000
	var err error
	for range 100 {
		port := first + rand.N(last-first)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// signal sends sig to processes that may have ended. When it is SIGSTOP, it
// returns when none of their threads runs any more.
func signal(sig syscall.Signal, pids ...int) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	if sig != syscall.SIGSTOP {
		return nil
	}
	deadline := time.Now().Add(startWait)
	for slices.ContainsFunc(pids, runs) {
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not stop", pids)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// runs tells whether a thread of the process is neither stopped nor ended.
func runs(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(stats, func(path string) bool {
		fields := statFields(path)
		return len(fields) > 0 && !strings.Contains("TtZX", fields[0])
	})
}

// statFields returns what a stat file of /proc says behind the process's name,
// which may hold anything: its state, its parent and more.
func statFields(path string) []string {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
}

// process is a server's main process.
type process struct {
	cmd    *exec.Cmd
	output tail
	exited chan struct{}
	err    error // of its exit; read after exited
}

// startProcess starts name as the user of credential, nil for our own. The
// kernel kills it when the test binary dies.
func startProcess(credential *syscall.Credential, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), exited: make(chan struct{})}
	p.cmd.Dir = "/"
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	dieWithParent(p.cmd.SysProcAttr)
	// Output goes through a pipe that children of the server inherit.
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// ready waits until probe succeeds or the process has ended.
func (p *process) ready(probe func() error) error {
	deadline := time.Now().Add(startWait)
	for {
		err := probe()
		select {
		case <-p.exited: // and if something answers, it is another
			return fmt.Errorf("%s ended: %w\n%s", p.cmd.Path, p.err, p.output.String())
		default:
		}
		if err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w\n%s", p.cmd.Path, err, p.output.String())
		}
	}
}

// stop sends sig, and SIGKILL to a process that it does not end.
func (p *process) stop(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(20 * time.Second):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.exited
	return nil
}

// tail keeps the end of what a process prints.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 16 << 10

var _ io.Writer = (*tail)(nil)

// Write implements [io.Writer].
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
