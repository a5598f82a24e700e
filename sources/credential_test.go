package sources_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sql2metrics/config"
	"sql2metrics/e2e/servers"
	"sql2metrics/sources"
)

func TestPassword(t *testing.T) {
	file := func(text string) config.Source { return config.Source{PasswordFile: tempFile(t, []byte(text))} }
	command := func(script string) config.Source {
		return config.Source{PasswordCommand: []string{"sh", "-c", script}, Timeout: 20 * time.Second}
	}
	for name, test := range map[string]struct {
		source    config.Source
		want      string
		wantError string
	}{
		"none":               {config.Source{}, "", ""},
		"in the text":        {config.Source{Password: config.NewSecret("tell ")}, "tell ", ""},
		"file":               {file(" a b\t"), " a b\t", ""},
		"file with a line":   {file("word\n"), "word", ""},
		"file from Windows":  {file("word\r\n"), "word", ""},
		"empty file":         {file(""), "", "is empty"},
		"empty line":         {file("\n"), "", "is empty"},
		"large file":         {file(strings.Repeat("x", 70000)), "", "more than 65536 bytes"},
		"file not of text":   {file("a\x00b"), "", "zero byte"},
		"no file":            {config.Source{PasswordFile: "/no/such"}, "", "read password_file /no/such: no such file"},
		"folder":             {config.Source{PasswordFile: os.TempDir()}, "", "no regular file"},
		"pipe":               {config.Source{PasswordFile: tempPipe(t)}, "", "no regular file"},
		"command":            {command("echo word"), "word", ""},
		"command that warns": {command("echo look >&2; echo word"), "word", ""},
		"no shell":           {config.Source{PasswordCommand: []string{"echo", "$HOME;", "`id`"}}, "$HOME; `id`", ""},
		"command reads":      {command("cat; echo word"), "word", ""},
		"empty output":       {command("true"), "", "read password_command sh: the password is empty"},
		"large output":       {command("yes | head -c 10000000"), "", "more than 65536 bytes"},
		"failing command":    {command("echo hidden; printf '\\n no \\033[1mtoken\\nsecond' >&2; exit 3"), "", "read password_command sh: exit status 3: no [1mtoken"},
		"wordy command":      {command("yes | tr -d '\\n' | head -c 100000 >&2; exit 3"), "", strings.Repeat("y", 200) + "…"},
		"no command":         {config.Source{PasswordCommand: []string{"no-such-program"}}, "", "not found in $PATH"},
		"killed command":     {command("kill -9 $$"), "", "signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sources.Password(t.Context(), test.source)
			switch {
			case test.wantError == "" && err != nil:
				t.Error(err)
			case test.wantError != "" && (err == nil || !strings.Contains(err.Error(), test.wantError)):
				t.Errorf("error is %v, want %s", err, test.wantError)
			case err != nil && (strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "second") || strings.ContainsRune(err.Error(), '\n')):
				t.Errorf("error shows too much: %v", err)
			case got.Reveal() != test.want:
				t.Errorf("password is %q, want %q", got.Reveal(), test.want)
			}
		})
	}
}

// tempPipe returns the path of a pipe into which nobody writes.
func tempPipe(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a password_command has started ends with it, also where it hangs.
func TestPasswordCommandEnds(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		limit  time.Duration
		cancel bool
		want   string
	}{
		"at its time limit":          {"sleep 600 & echo $! >$0; wait", 200 * time.Millisecond, false, "did not end within"},
		"with the query":             {"sleep 600 & echo $! >$0; wait", time.Minute, true, context.Canceled.Error()},
		"deaf to signals":            {"trap '' TERM INT HUP; sleep 600 & echo $! >$0; wait", 200 * time.Millisecond, false, "did not end within"},
		"printing on":                {"yes & echo $! >$0; wait", 200 * time.Millisecond, false, "did not end within"},
		"what holds its output open": {"sleep 600 & echo $! >$0; echo word", time.Minute, false, "left a program running"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			started := filepath.Join(t.TempDir(), "pid")
			pid := func() int {
				text, _ := os.ReadFile(started)
				n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
				return n
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := sources.Password(ctx, config.Source{PasswordCommand: []string{"sh", "-c", test.script, started}, Timeout: test.limit})
				done <- err
			}()
			if test.cancel {
				servers.Eventually(t, "the command runs", func() bool { return pid() != 0 })
				cancel()
			}
			err := <-done
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v", err)
			}
			servers.Eventually(t, "what it started is gone", func() bool {
				return pid() == 0 || errors.Is(syscall.Kill(pid(), 0), syscall.ESRCH)
			})
		})
	}
}
