//go:build torture

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// isVersion2 reports whether a cgroup is of version 2.
func isVersion2(group string) bool {
	_, err := os.Stat(filepath.Join(group, "memory.max"))
	return err == nil
}

// peakMemory is the largest memory of a cgroup seen so far in bytes, and of its parts.
type peakMemory struct {
	mu    sync.Mutex
	parts map[string]int
	limit int // times that the limit was reached
}

// memoryParts are the parts, by their names in memory.stat. The kernel can reclaim files.
func memoryParts() []string { return []string{"anon", "file", "sock", "slab", "kernel_stack"} }

// add looks at the cgroup once. It ignores errors: the group may be removed meanwhile.
func (p *peakMemory) add(group string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parts == nil {
		p.parts = map[string]int{}
	}
	note := func(name string, n int) { p.parts[name] = max(p.parts[name], n) }
	read := func(name string) (n int, ok bool) {
		text, err := os.ReadFile(filepath.Join(group, name))
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return n, err == nil
	}
	all, version2 := read("memory.current")
	if !version2 { // sockets are counted separately
		all, _ = read("memory.usage_in_bytes")
		sockets, _ := read("memory.kmem.tcp.usage_in_bytes")
		note("sock", sockets)
		all += sockets
	}
	if peak, ok := read("memory.peak"); ok {
		all = max(all, peak)
	}
	note("current", all)
	events, _ := os.ReadFile(filepath.Join(group, "memory.events"))
	for line := range strings.Lines(string(events)) {
		_, _ = fmt.Sscanf(line, "max %d", &p.limit)
	}
	text, _ := os.ReadFile(filepath.Join(group, "memory.stat"))
	for line := range strings.Lines(string(text)) {
		var name string
		var n int
		if _, err := fmt.Sscan(line, &name, &n); err != nil {
			continue
		}
		switch {
		case slices.Contains(memoryParts(), name):
			note(name, n)
		case name == "rss": // of version 1
			note("anon", n)
		case name == "cache":
			note("file", n)
		}
	}
}

func (p *peakMemory) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf("at most %d MiB", p.parts["current"]>>20)
	for _, name := range memoryParts() {
		if n := p.parts[name]; n > 0 {
			text += fmt.Sprintf(", %s %d", name, n>>20)
		}
	}
	return text + fmt.Sprintf("; the limit was reached %d times", p.limit)
}
