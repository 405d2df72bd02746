package doctor

import (
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Proc contains the mount points of the proc file system and of the control groups.
type Proc struct{ Proc, Cgroups string }

// System returns the mount points on this host.
func System() Proc { return Proc{"/proc", "/sys/fs/cgroup"} }

// Sysctl reads a numeric setting such as net/core/rmem_max. It returns -1 if that
// fails.
func (p Proc) Sysctl(name string) int64 {
	return parseLimit(readText(filepath.Join(p.Proc, "sys", name)))
}

func readText(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// parseLimit parses a limit, with math.MaxInt64 for "max" and "unlimited". It returns -1 if
// text is not a limit.
func parseLimit(text string) int64 {
	switch n, err := strconv.ParseInt(text, 10, 64); {
	case text == "max", text == "unlimited":
		return math.MaxInt64
	case err == nil && n >= 0:
		return n
	}
	return -1
}

// OpenFiles returns the hard limit of open files of a process, to which the Go runtime
// raises the soft limit at the start. It returns -1 if the limit can't be read.
func (p Proc) OpenFiles(pid string) int64 {
	for line := range strings.Lines(readText(filepath.Join(p.Proc, pid, "limits"))) {
		if fields, ok := strings.CutPrefix(line, "Max open files"); ok {
			if values := strings.Fields(fields); len(values) >= 2 {
				return parseLimit(values[1])
			}
		}
	}
	return -1
}

// CountsSockets reports whether the memory cgroup of a process counts its sockets: whether
// it is of version 2.
func (p Proc) CountsSockets(pid string) bool {
	unified := false
	for line := range strings.Lines(readText(filepath.Join(p.Proc, pid, "cgroup"))) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && strings.Contains(","+parts[1]+",", ",memory,") {
			return false
		}
		unified = unified || len(parts) == 3 && parts[1] == ""
	}
	return unified
}

// noLimit is the lower bound of the value that means no limit in memory cgroups of
// version 1. The exact value depends on the page size.
const noLimit = math.MaxInt64 &^ (1<<20 - 1)

// Memory returns the lowest memory limit of the cgroups of a process, in bytes. It
// returns MaxInt64 if there is no limit, and -1 if the cgroups can't be read.
func (p Proc) Memory(pid string) int64 {
	groups := readText(filepath.Join(p.Proc, pid, "cgroup"))
	if groups == "" {
		return -1
	}
	lowest := int64(math.MaxInt64)
	for line := range strings.Lines(groups) { // a line is hierarchy:controllers:path
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		mount, file := "", "memory.max"
		switch {
		case parts[1] == "memory":
			mount, file = "memory", "memory.limit_in_bytes"
		case parts[1] != "":
			continue
		}
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			if n := parseLimit(readText(filepath.Join(p.Cgroups, mount, dir, file))); n >= 0 && n < noLimit {
				lowest = min(lowest, n)
			}
			if dir == "/" {
				break
			}
		}
	}
	return lowest
}
