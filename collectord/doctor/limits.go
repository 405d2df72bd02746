package doctor

import (
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Proc is where the kernel shows processes and settings, and Cgroups its control groups.
type Proc struct{ Proc, Cgroups string }

// System is the proc and cgroups of this host.
func System() Proc { return Proc{"/proc", "/sys/fs/cgroup"} }

// Sysctl reads a number such as net/core/rmem_max; -1: it can't be read.
func (p Proc) Sysctl(name string) int64 {
	return number(readText(filepath.Join(p.Proc, "sys", name)))
}

func readText(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// number reads what is written alone; -1: it is none.
func number(text string) int64 {
	switch n, err := strconv.ParseInt(text, 10, 64); {
	case text == "max", text == "unlimited":
		return math.MaxInt64
	case err == nil && n >= 0:
		return n
	}
	return -1
}

// OpenFiles is the soft limit of open files of a process, as Go raises it to the hard one
// at its start; -1: it can't be read.
func (p Proc) OpenFiles(pid string) int64 {
	for line := range strings.Lines(readText(filepath.Join(p.Proc, pid, "limits"))) {
		if fields, ok := strings.CutPrefix(line, "Max open files"); ok {
			if values := strings.Fields(fields); len(values) >= 2 {
				return number(values[1])
			}
		}
	}
	return -1
}

// noLimit is where the limits of a memory cgroup of version 1 end, less a page or so.
const noLimit = math.MaxInt64 &^ (1<<20 - 1)

// Memory is the lowest limit of memory of the cgroups that a process is in; MaxInt64: there
// is none; -1: it can't be read.
func (p Proc) Memory(pid string) int64 {
	groups := readText(filepath.Join(p.Proc, pid, "cgroup"))
	if groups == "" {
		return -1
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(groups) { // hierarchy:controllers:path
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
		for at := path.Clean("/" + parts[2]); ; at = path.Dir(at) {
			if n := number(readText(filepath.Join(p.Cgroups, mount, at, file))); n >= 0 && n < noLimit {
				least = min(least, n)
			}
			if at == "/" {
				break
			}
		}
	}
	return least
}
