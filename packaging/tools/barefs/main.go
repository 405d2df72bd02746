// Barefs mounts a directory as a file system without two operations: hard links, and
// renames that replace no existing file. exFAT and many FUSE file systems also lack them.
//
//	barefs DIRECTORY MOUNTPOINT
//
// It prints a line once it is mounted, and runs until it is unmounted or its standard
// input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is a file or directory of the mounted file system.
type node struct{ fs.LoopbackNode }

func (n *node) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM // exFAT also returns this error
}

func (n *node) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	return n.LoopbackNode.Rename(ctx, name, parent, newName, 0)
}

func run(directory, mountpoint string) error {
	root := &fs.LoopbackRoot{Path: directory}
	root.NewNode = func(r *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &node{fs.LoopbackNode{RootData: r}}
	}
	root.RootNode = root.NewNode(root, nil, "", nil)
	server, err := fs.Mount(mountpoint, root.RootNode, &fs.Options{MountOptions: fuse.MountOptions{FsName: "barefs", DirectMount: true}})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Unmount()
	}()
	server.Wait()
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: barefs DIRECTORY MOUNTPOINT")
		os.Exit(1)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "barefs:", err)
		os.Exit(1)
	}
}
