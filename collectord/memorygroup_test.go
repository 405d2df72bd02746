//go:build torture

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// memoryGroup makes a memory cgroup of version 1 or 2 and returns its directory.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	root, bound, swap := "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	if controllers, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); strings.Contains(string(controllers), "memory") {
		root, bound, swap = "/sys/fs/cgroup", "memory.max", "memory.swap.max"
		_ = os.WriteFile(root+"/cgroup.subtree_control", []byte("+memory"), 0o600) // fails if the controller is already enabled
		limit = limit / os.Getpagesize() * os.Getpagesize()
	}
	dir := fmt.Sprintf("%s/collectord-test-%d", root, os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		skipMissing(t, "memory cgroup: "+err.Error())
	}
	t.Cleanup(func() {
		for range 100 { // until the kernel has removed the last process
			if os.Remove(dir) == nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, bound), []byte(strconv.Itoa(limit)), 0o600); err != nil {
		skipMissing(t, "memory controller of cgroups: "+err.Error())
	}
	if root != "/sys/fs/cgroup" { // version 1 counts memory of sockets separately, and only with a limit
		if err := os.WriteFile(filepath.Join(dir, "memory.kmem.tcp.limit_in_bytes"), []byte(strconv.Itoa(1<<40)), 0o600); err != nil {
			skipMissing(t, "memory of sockets in cgroups: "+err.Error())
		}
	}
	// The group gets no additional swap, if the kernel counts swap.
	noSwap := "0"
	if root != "/sys/fs/cgroup" {
		noSwap = strconv.Itoa(limit)
	}
	_ = os.WriteFile(filepath.Join(dir, swap), []byte(noSwap), 0o600)
	return dir
}

// inGroup returns a command that runs in a cgroup.
func inGroup(group string, run *exec.Cmd) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", `echo $$ >"$0"/cgroup.procs && exec "$@"`, group}, run.Args...)...)
}

// oomKills returns the number of processes that the kernel killed for lack of memory.
func oomKills(t *testing.T, group string) int {
	t.Helper()
	for _, name := range []string{"memory.events", "memory.oom_control"} {
		if _, err := os.Stat(filepath.Join(group, name)); err == nil {
			return readNumber(t, filepath.Join(group, name), `oom_kill (\d+)`)
		}
	}
	t.Fatal("the kernel does not count OOM kills")
	return 0
}

// groupMemory returns the current memory of the cgroup in bytes, and its parts in the page
// cache and in sockets. The kernel can reclaim the page cache.
func groupMemory(t *testing.T, group string) (all, files, sockets int) {
	t.Helper()
	for _, name := range []string{"memory.current", "memory.usage_in_bytes"} {
		if _, err := os.Stat(filepath.Join(group, name)); err == nil {
			all = readNumber(t, filepath.Join(group, name), `(\d+)`)
		}
	}
	separate := filepath.Join(group, "memory.kmem.tcp.usage_in_bytes")
	if _, err := os.Stat(separate); err == nil {
		sockets = readNumber(t, separate, `(\d+)`)
		all += sockets
	} else {
		sockets = readNumber(t, filepath.Join(group, "memory.stat"), `(?m)^sock (\d+)`)
	}
	return all, readNumber(t, filepath.Join(group, "memory.stat"), `(?m)^(?:file|cache) (\d+)`), sockets
}
