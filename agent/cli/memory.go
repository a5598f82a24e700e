package cli

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// garbage is how much of it there may be before it is collected, in percent of
// what is alive: a third of Go's default. The agent holds on to what it knows
// of its series and a sample leaves nothing behind, so garbage is slow to come,
// and to collect it three times as often costs hardly any CPU.
const garbage = 30

// profileRate is of how many bytes allocated one is in a profile of the heap:
// Go's default.
const profileRate = 512 << 10

// limitMemory keeps the heap small for an agent that shares its machine with a
// database, and makes the garbage collector work harder before the process
// comes to the limit of its cgroup, where the kernel would kill it: at 90 % of
// it. GOGC and GOMEMLIMIT have precedence.
func limitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit := cgroupLimit(os.DirFS("/")); limit < math.MaxInt64 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}

// cgroupLimit returns how many bytes the process may have by its cgroup and
// those above it, version 1 or 2; [math.MaxInt64] is no limit. root is the
// file system.
func cgroupLimit(root fs.FS) int64 {
	limit := int64(math.MaxInt64)
	own, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return limit // not Linux
	}
	// hierarchy:controllers:path; version 2 is hierarchy 0 without controllers.
	for lines := bufio.NewScanner(bytes.NewReader(own)); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		switch fields[1] {
		case "memory":
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case "":
		default:
			continue
		}
		// A container may see the path that the group has outside, and below
		// its mount only itself: a path that is not there says nothing.
		for dir := path.Clean("/" + fields[2]); ; dir = path.Dir(dir) {
			if content, err := fs.ReadFile(root, path.Join(mount, dir, file)); err == nil {
				if n, err := strconv.ParseInt(string(bytes.TrimSpace(content)), 10, 64); err == nil && n > 0 && n < 1<<60 {
					limit = min(limit, n) // version 1 says "none" with almost the largest int64
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	return limit
}
