package cli

import (
	"math"
	"testing"
	"testing/fstest"
)

func TestCgroupLimit(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"not Linux": {want: math.MaxInt64},
		"version 2, in a container": {
			files: map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "134217728\n"},
			want:  134217728,
		},
		"version 2, no limit": {
			files: map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"},
			want:  math.MaxInt64,
		},
		"version 2, the group above has less": {
			files: map[string]string{
				"proc/self/cgroup":             "0::/pod/agent\n",
				"sys/fs/cgroup/pod/memory.max": "1000", "sys/fs/cgroup/pod/agent/memory.max": "2000",
			},
			want: 1000,
		},
		"version 1, under the path it has outside": {
			files: map[string]string{
				"proc/self/cgroup":                           "5:cpu:/x\n4:memory:/docker/abc\n0::/\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n",
			},
			want: 4096,
		},
		"version 1, no limit": {
			files: map[string]string{
				"proc/self/cgroup":                           "4:memory:/\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			},
			want: math.MaxInt64,
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for path, content := range c.files {
				root[path] = &fstest.MapFile{Data: []byte(content)}
			}
			if got := cgroupLimit(root); got != c.want {
				t.Errorf("limit %d, want %d", got, c.want)
			}
		})
	}
}
