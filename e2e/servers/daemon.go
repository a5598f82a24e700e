package servers

import (
	"errors"
	"sync"
	"syscall"
)

// daemon is the process of a server that can be stopped and started again.
// What embeds it gets its methods, which may be called from several
// goroutines. The zero value is stopped.
type daemon struct {
	mu      sync.Mutex
	process *process // nil while stopped
}

// start starts name as the user of credential, nil for our own, and returns when
// ready does so without an error. It does nothing if the process runs.
func (d *daemon) start(credential *syscall.Credential, ready func() error, name string, args ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process != nil {
		return nil
	}
	p, err := startProcess(credential, name, args...)
	if err != nil {
		return err
	}
	if err := p.ready(ready); err != nil {
		return errors.Join(err, p.stop(syscall.SIGKILL))
	}
	d.process = p
	return nil
}

// Stop kills the server: clients lose their connections.
func (d *daemon) Stop() error { return d.stop(syscall.SIGKILL) }

func (d *daemon) stop(sig syscall.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process == nil {
		return nil
	}
	p := d.process
	d.process = nil
	return p.stop(sig)
}

// Pause makes the server stop answering without closing anything, as a machine
// that hangs or a network that swallows packets does.
func (d *daemon) Pause() error { return d.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (d *daemon) Resume() error { return d.signal(syscall.SIGCONT) }

// signal sends sig to the process and then to its children: one that is
// stopped has no more of them.
func (d *daemon) signal(sig syscall.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process == nil {
		return errors.New("signal a server: it is stopped")
	}
	main := d.process.cmd.Process.Pid
	if err := signal(sig, main); err != nil {
		return err
	}
	return signal(sig, children(main)...)
}
