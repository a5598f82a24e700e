package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"

	"sql2metrics/config"
)

// How large what a connection needs may be. A token of a cloud has some
// kilobytes, a file of all authorities some hundred.
const (
	maxPassword    = 64 << 10
	maxCertificate = 1 << 20
)

// loginError marks that a server was there and refused the login. It is asked
// again more rarely than one that is down: many servers lock an account after
// a few failed logins.
type loginError struct{ err error }

func (e *loginError) Error() string { return e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// fileError says that a file a connection needs cannot be read. It may be
// there at the next attempt.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// password returns the password of s for one new connection, or an unset one
// when s gives none beside its data_source_name. It is read from where it is
// kept at each call, so that a rotation needs no restart.
func password(ctx context.Context, s config.Source) (config.Secret, error) {
	var (
		text []byte
		err  error
		from string
	)
	switch {
	case s.PasswordFile != "":
		from = "password_file " + s.PasswordFile
		text, err = readCredential(s.PasswordFile, maxPassword)
	case len(s.PasswordCommand) > 0:
		from = "password_command " + s.PasswordCommand[0]
		text, err = runPasswordCommand(ctx, s.PasswordCommand, s.Timeout)
	default:
		return s.Password, nil
	}
	text = bytes.TrimRight(text, "\r\n")
	switch {
	case err != nil:
	case len(text) == 0:
		err = errors.New("the password is empty; have it hold one")
	case bytes.IndexByte(text, 0) >= 0:
		err = errors.New("the password holds a zero byte; have it be text")
	}
	if err != nil {
		return config.Secret{}, &fileError{fmt.Errorf("read %s: %w", from, err)}
	}
	return config.NewSecret(string(text)), nil
}

// readCredential returns what the file holds, if that is not over limit. A pipe
// or a device, which could hold the reader up for ever, is not read. The error
// does not name it.
func readCredential(path string, limit int) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file; name one")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case len(text) > limit:
		return nil, tooLarge(limit)
	}
	return text, nil
}

func tooLarge(limit int) error {
	return fmt.Errorf("it holds more than %d bytes; is it what was meant?", limit)
}

// withoutPath returns the cause of an error of a file operation.
func withoutPath(err error) error {
	if cause := errors.Unwrap(err); cause != nil {
		return cause
	}
	return err
}

// commandGrace is for how long the output of a password_command may stay open
// after the program has ended.
const commandGrace = time.Second

// runPasswordCommand returns what the program prints within limit. It runs
// without a shell and in a process group of its own, which ends with ctx. What
// it prints is in no error: it may be the password.
func runPasswordCommand(ctx context.Context, argv []string, limit time.Duration) ([]byte, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endGroup := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = endGroup
	cmd.WaitDelay = commandGrace
	printed := head{limit: maxPassword + 1}
	complaint := head{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = &printed, &complaint

	err := cmd.Run()
	switch {
	case err == nil && len(printed.text) > maxPassword:
		return nil, tooLarge(maxPassword)
	case err == nil:
		return printed.text, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = errors.New("it did not end within the time there is to connect; see global.scrape_timeout")
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay):
		_ = endGroup() // what it left behind still has its output open
		return nil, errors.New("it left a program running that holds its output open; redirect the output of that one")
	}
	if line := firstLine(complaint.text); line != "" {
		err = fmt.Errorf("%w: %s", err, line)
	}
	return nil, err
}

// head keeps the first bytes of what is written to it.
type head struct {
	limit int
	text  []byte
}

// Write implements [io.Writer]. It takes everything, so that the program
// writing does not end because of it.
func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), h.limit-len(h.text))]...)
	return len(p), nil
}

// maxComplaint is how much of a program's words an error shows.
const maxComplaint = 200

// firstLine returns the first line of text that is not empty, as far as it can
// be printed.
func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	printable := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, line))
	if len(printable) > maxComplaint {
		return string(printable[:maxComplaint]) + "…"
	}
	return string(printable)
}
