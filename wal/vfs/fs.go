package vfs

import (
	"io"
	"io/fs"
)

// FS is a file system. Paths are those of package filepath. Errors wrap an errno in an
// *fs.PathError or *os.LinkError.
//
// A name that was added, changed or removed is durable once SyncDir of its directory has
// returned nil. After an error of SyncDir, any change since the last nil may be durable
// or not. Methods are named as in package os, except that Remove is unlink(2).
type FS interface {
	// Open opens a regular file for reading. The error for anything else, including a
	// symbolic link to a file, wraps ErrNotRegular: a FIFO would block, and a link could
	// lead anywhere.
	Open(path string) (File, error)
	// OpenWritable is Open for reading and writing.
	OpenWritable(path string) (File, error)
	// Create creates a file of mode 0640 and opens it for reading and writing. The
	// error wraps fs.ErrExist if the name exists.
	Create(path string) (File, error)
	// Mkdir creates a directory of mode 0750.
	Mkdir(path string) error
	// Rename is rename(2): it replaces a file, or an empty directory.
	Rename(from, to string) error
	// Link is link(2).
	Link(from, to string) error
	// Remove deletes a file or a symbolic link. It returns an error for a directory.
	Remove(path string) error
	// RemoveIn deletes a file in the directory dir, which must not be a symbolic link.
	RemoveIn(dir, name string) error
	// RemoveDir deletes an empty directory.
	RemoveDir(path string) error
	// List returns the entries of a directory, sorted by name.
	List(dir string) ([]fs.DirEntry, error)
	// Stat is lstat(2): it does not follow a symbolic link. The result's Sys is a
	// *syscall.Stat_t with at least Dev, Ino and Nlink.
	Stat(path string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable, by fsync(2).
	SyncDir(dir string) error
	// Lock locks a file until the result is closed or the process ends. It creates the
	// file if there is none. The error wraps EWOULDBLOCK if another process holds the
	// lock.
	Lock(path string) (io.Closer, error)
	// Free returns how many bytes this process can still write to the file system of
	// dir.
	Free(dir string) (int64, error)
}

// Reserver is a File that can reserve space.
type Reserver interface {
	// Reserve reserves the disk space of the first size bytes. It writes nothing and does
	// not change the file's size. Where the file system can't reserve, it returns nil.
	Reserve(size int64) error
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	// Sync is fsync(2). After an error, anything written since the last nil may be lost,
	// even if a later Sync returns nil: the kernel may have dropped the pages and marked
	// them clean.
	Sync() error
	// Datasync is fdatasync(2): Sync without the file's times.
	Datasync() error
}
