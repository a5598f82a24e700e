package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cpu returns the time that an agent which has ended has used, from its first
// instruction on.
func (a *agent) cpu() time.Duration {
	u := a.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peak returns the largest resident memory that it had, in kB.
func (a *agent) peak() float64 {
	return float64(a.cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
}

// procCPU returns the time that a running process has used so far, in steps of
// 10 ms.
func procCPU(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	// pid (name) state and so on; utime and stime are fields 14 and 15.
	_, after, _ := cutLast(readProc(tb, pid, "stat"), ")")
	fields := strings.Fields(after)
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// procField returns a number of a process's status (VmRSS, VmHWM, in kB) or io
// (rchar, in bytes).
func procField(tb testing.TB, pid int, file, field string) float64 {
	tb.Helper()
	for line := range strings.Lines(readProc(tb, pid, file)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				tb.Fatal(err)
			}
			return n
		}
	}
	tb.Fatalf("no %s in /proc/%d/%s", field, pid, file)
	return 0
}

func readProc(tb testing.TB, pid int, file string) string {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}
