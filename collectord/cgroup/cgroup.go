package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Groups are the control groups of version 2 that this process is in, from its own to the
// root.
type Groups struct{ dirs []string }

// Own returns the groups of this process.
func Own() (Groups, error) { return open("/proc/self/cgroup", "/sys/fs/cgroup") }

func open(membership, mount string) (g Groups, err error) {
	text, err := os.ReadFile(membership)
	if err != nil {
		return g, err
	}
	for line := range strings.Lines(string(text)) {
		name, unified := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !unified {
			continue
		}
		for dir := path.Clean("/" + name); ; dir = path.Dir(dir) {
			g.dirs = append(g.dirs, filepath.Join(mount, dir))
			if dir == "/" {
				break
			}
		}
	}
	return g, nil
}

// Memory is a group's memory in bytes.
type Memory struct {
	Limit int64 // MaxInt64: no limit
	Free  int64 // what is left of the limit, if the kernel reclaims all files that it can

	// Unwritten is how many bytes of files wait to be written, and are not free for that
	// reason; 0 if more than half of the limit is free without files.
	Unwritten int64
}

// Memory returns the memory of the group that has the least left.
func (g Groups) Memory() (least Memory, err error) {
	least = Memory{Limit: math.MaxInt64, Free: math.MaxInt64}
	for _, dir := range g.dirs {
		m, err := read(dir)
		if err != nil {
			return least, err
		}
		if m.Free < least.Free {
			least = m
		}
	}
	return least, nil
}

func read(dir string) (m Memory, err error) {
	m = Memory{Limit: math.MaxInt64, Free: math.MaxInt64}
	// Beyond memory.high the kernel slows the process down.
	for _, file := range []string{"memory.max", "memory.high"} {
		n, err := readNumber(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			return m, nil // the root group, or one whose memory is not limited
		}
		if err != nil {
			return m, err
		}
		m.Limit = min(m.Limit, n)
	}
	if m.Limit == math.MaxInt64 {
		return m, nil
	}
	used, err := readNumber(filepath.Join(dir, "memory.current"))
	if err != nil {
		return m, err
	}
	m.Free = m.Limit - used
	if m.Free >= m.Limit/2 {
		return m, nil // memory.stat takes longer
	}
	text, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return m, err
	}
	var free int64
	free, m.Unwritten = files(string(text))
	m.Free += free
	return m, nil
}

// files returns the bytes of files that the kernel can free at once, and of those that wait
// to be written. Files that are mapped, such as the program, are neither. Reclaimable slabs
// are not free, since open sockets keep theirs.
func files(stat string) (free, unwritten int64) {
	for line := range strings.Lines(stat) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		bytes, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "file":
			free += bytes
		case "file_mapped", "shmem":
			free -= bytes
		case "file_dirty", "file_writeback":
			free -= bytes
			unwritten += bytes
		}
	}
	return max(0, free), unwritten
}

func readNumber(file string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(b))
	if text == "max" {
		return math.MaxInt64, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}
