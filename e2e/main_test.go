// Package e2e tests sql2metrics as its users meet it: the real binary, real
// databases, Prometheus's own receiver code, and faults between them. What it
// needs of this machine is installed by install.sh; a test that lacks its
// server skips, or fails under E2E_REQUIRE=1.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if database := os.Getenv(applicationVariable); database != "" {
		if err := runApplication(database, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(buildFolder())
		os.Exit(code)
	}))
}

// buildFolder returns the folder of what is built once for all tests. Other
// users may read it.
var buildFolder = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "sql2metrics-e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		panic(err)
	}
	return dir
})

// program builds the real program, with the race detector if the tests have it, and
// returns its path.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildFolder(), "sql2metrics")
	args := []string{"build", "-buildvcs=false", "-o", path}
	if raceEnabled() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "sql2metrics")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// patience is how long a condition of real processes may take to come true. It
// is no claim about speed: it only ends a test that would hang.
const patience = 2 * time.Minute

// eventually waits until check returns nil.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// soak tells whether the long loops are wanted.
func soak() bool { return os.Getenv("SOAK") != "" }
