package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// group makes the files of a group.
func group(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The group with the least memory left counts, and files that can be freed count as free.
func TestTheGroupWithTheLeastMemoryCounts(t *testing.T) {
	const unlimited = "max"
	stat := "anon 1\nfile 3000\nfile_mapped 1000\nshmem 0\nfile_dirty 200\nfile_writeback 100\nslab_reclaimable 500\nsock 40"
	for name, c := range map[string]struct {
		membership  string
		own, parent map[string]string
		want        Memory
	}{
		"no limit": {"0::/a/b\n", map[string]string{"memory.max": unlimited, "memory.high": unlimited}, nil, Memory{Limit: math.MaxInt64, Free: math.MaxInt64}},
		"own limit": {
			"0::/a/b\n",
			map[string]string{"memory.max": "10000", "memory.high": unlimited, "memory.current": "9000", "memory.stat": stat},
			nil,
			Memory{10000, 1000 + 1700, 300},
		},
		"much is left": {
			"0::/a/b\n",
			map[string]string{"memory.max": "10000", "memory.high": unlimited, "memory.current": "100"},
			nil,
			Memory{10000, 9900, 0},
		},
		"memory.high": {
			"0::/a/b\n",
			map[string]string{"memory.max": "10000", "memory.high": "9500", "memory.current": "9000", "memory.stat": "file 0"},
			nil,
			Memory{9500, 500, 0},
		},
		"the parent's limit": {
			"0::/a/b\n",
			map[string]string{"memory.max": "10000", "memory.high": unlimited, "memory.current": "100"},
			map[string]string{"memory.max": "8000", "memory.high": unlimited, "memory.current": "8000", "memory.stat": "file 0"},
			Memory{8000, 0, 0},
		},
		"version 1": {"3:memory:/a/b\n1:cpu:/\n", map[string]string{"memory.max": "10000"}, nil, Memory{Limit: math.MaxInt64, Free: math.MaxInt64}},
	} {
		t.Run(name, func(t *testing.T) {
			mount := t.TempDir()
			group(t, mount, map[string]string{"membership": c.membership})
			group(t, mount+"/a", c.parent)
			group(t, mount+"/a/b", c.own)
			g, err := open(mount+"/membership", mount)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := g.Memory(); err != nil || got != c.want {
				t.Errorf("%+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestAFileThatIsNoNumberIsAnError(t *testing.T) {
	mount := t.TempDir()
	group(t, mount, map[string]string{"membership": "0::/\n", "memory.max": "many"})
	g, err := open(mount+"/membership", mount)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := g.Memory(); err == nil {
		t.Errorf("%+v, want an error", m)
	}
}
