package sources

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sql2metrics/config"
)

// account is a server's account, with a password_file beside it.
type account struct {
	password string // at the server
	file     string
	attempts int
	refusals int
}

func newAccount(t *testing.T, password string) *account {
	a := &account{password: password, file: filepath.Join(t.TempDir(), "password")}
	a.write(t, password)
	return a
}

func (a *account) write(t *testing.T, password string) {
	t.Helper()
	if err := os.WriteFile(a.file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *account) login() error {
	a.attempts++
	secret, err := password(context.Background(), config.Source{PasswordFile: a.file})
	if err == nil && secret.Reveal() != a.password {
		a.refusals++
		err = &loginError{errRefused}
	}
	return err
}

// The pause after a refused login doubles up to some minutes.
func TestLoginsPause(t *testing.T) {
	now := time.Unix(1000, 0)
	a := newAccount(t, "old")
	l := newLogins(config.Source{PasswordFile: a.file}, func() time.Time { return now })
	a.password = "new"
	for i, seconds := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		pause := seconds * time.Second
		for range 3 {
			if err := l.try(t.Context(), a.login); !errors.Is(err, errRefused) {
				t.Fatal(err)
			}
			now = now.Add(pause/2/3 - 1)
		}
		if a.attempts != i+1 {
			t.Fatalf("%d attempts within half of the pause of %v, want 1", a.attempts-i, pause)
		}
		now = now.Add(pause)
	}
	a.write(t, "new")
	if err := l.try(t.Context(), a.login); err != nil {
		t.Error(err)
	}
	a.password = "newer"
	before := a.attempts
	_ = l.try(t.Context(), a.login)
	now = now.Add(firstLoginPause)
	_ = l.try(t.Context(), a.login)
	if a.attempts != before+2 {
		t.Error("the pause after a success and a refusal is not the first one")
	}
}

// However many queries there are, a rotation costs at most one failed login for
// each content of the file.
func TestLoginsAfterRotation(t *testing.T) {
	server := func(password string) func(*testing.T, *account) {
		return func(_ *testing.T, a *account) { a.password = password }
	}
	file := func(password string) func(*testing.T, *account) {
		return func(t *testing.T, a *account) { a.write(t, password) }
	}
	remove := func(t *testing.T, a *account) {
		if err := os.Remove(a.file); err != nil {
			t.Fatal(err)
		}
	}
	type steps []func(*testing.T, *account)
	for name, test := range map[string]struct {
		steps    steps
		refusals int
		atOnce   bool // the next query can log in
		later    bool // it can when the pause is over
	}{
		"no rotation":       {nil, 0, true, true},
		"server, then file": {steps{server("new"), file("new")}, 1, true, true},
		"file, then server": {steps{file("new"), server("new")}, 1, false, true},
		"server only":       {steps{server("new")}, 1, false, false},
		"server and back":   {steps{server("new"), server("old")}, 1, false, true},
		"file as it was":    {steps{server("new"), file("old")}, 1, false, false},
		"a typo first":      {steps{server("new"), file("typo"), file("new")}, 2, true, true},
		"file is replaced":  {steps{server("new"), remove, file("new")}, 1, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			a := newAccount(t, "old")
			l := newLogins(config.Source{PasswordFile: a.file}, func() time.Time { return now })
			for _, step := range append(test.steps, func(*testing.T, *account) {}) {
				step(t, a)
				var queries sync.WaitGroup
				for range 10 {
					queries.Go(func() { _ = l.try(t.Context(), a.login) })
				}
				queries.Wait()
			}
			err := l.try(t.Context(), a.login)
			if a.refusals != test.refusals || (err == nil) != test.atOnce {
				t.Errorf("%d refused logins, want %d; the next one: %v", a.refusals, test.refusals, err)
			}
			now = now.Add(2 * firstLoginPause)
			if err := l.try(t.Context(), a.login); (err == nil) != test.later {
				t.Errorf("a login after the pause: %v", err)
			}
		})
	}
}
