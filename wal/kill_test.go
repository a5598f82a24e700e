package wal

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// appendUntilKilled is the test binary as an appender: it prints the total of
// samples after each append that returned. The lines are long, so that the pipe
// has room for few: an appender is not far ahead of a test that is kept waiting.
func appendUntilKilled(path string) {
	now := time.Now()
	l, err := Open(context.Background(), Options{Path: path, SegmentBytes: 64 << 10, MinFree: -1}, now)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	series := testSeries(l, 3000)
	for {
		// A run begins above the floor of the one before, however short it was.
		now = now.Add(time.Millisecond)
		if _, err := l.Append(roundOf(series, now, 0), now); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Printf("%1000d\n", l.Stats().Appended.Samples)
	}
}

// TestKill holds the promise that a sample whose append returned is there
// after kill -9, at whatever moment it comes.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for range 5 {
		appends := 1 + rand.IntN(40)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WAL_TEST_APPENDER="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged uint64
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if acknowledged, err = strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64); err != nil {
				t.Fatal(err)
			}
			if n == appends {
				// It goes on appending until the signal arrives.
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait() // the error is the signal

		r, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		samples, evicted, damaged := readAll(t, r)
		r.Close()
		if uint64(len(samples)) < acknowledged || !evicted.IsZero() || !damaged.IsZero() {
			t.Errorf("killed after %d appends: %d samples were acknowledged, %d can be read, damaged %+v, evicted %+v",
				appends, acknowledged, len(samples), damaged, evicted)
		}
		last := map[string]int64{}
		for _, s := range samples {
			if s.T <= last[s.Labels] {
				t.Fatalf("%s goes from %d back to %d", s.Labels, last[s.Labels], s.T)
			}
			last[s.Labels] = s.T
		}
	}
}
