package simdisk

import (
	"io/fs"
	"syscall"
	"time"
)

func (n *node) info(name string) fs.FileInfo {
	i := info{name: name, modified: n.modified, mode: 0o640, size: int64(len(n.data)), stat: syscall.Stat_t{Ino: n.ino, Nlink: uint64(n.links)}}
	if n.names != nil {
		i.mode = fs.ModeDir | 0o750
	}
	return i
}

type info struct {
	name     string
	size     int64
	mode     fs.FileMode
	modified time.Time
	stat     syscall.Stat_t
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.modified }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return &i.stat }
