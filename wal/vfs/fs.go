package vfs

import (
	"io"
	"io/fs"
)

// FS is a file system. Paths are those of package filepath. Errors wrap an errno
// in an *fs.PathError or *os.LinkError.
//
// A name, new, changed or removed, is durable once SyncDir of its directory has
// returned nil. After an error of SyncDir each change since the last nil may be
// durable or not.
type FS interface {
	// Open opens a regular file for reading. Anything else, also a symbolic link to
	// a file, is ErrNotRegular: a FIFO would block, a link could lead anywhere.
	Open(path string) (File, error)
	// OpenWritable is Open for reading and writing.
	OpenWritable(path string) (File, error)
	// Create makes a file of mode 0640 that was not there before.
	Create(path string) (File, error)
	// Mkdir makes a directory of mode 0750.
	Mkdir(path string) error
	// Rename is rename(2): it takes the place of a file, or of an empty directory.
	Rename(from, to string) error
	// Link is link(2).
	Link(from, to string) error
	// Remove deletes a file or a symbolic link.
	Remove(path string) error
	// RemoveIn deletes a file of a directory that is not a symbolic link.
	RemoveIn(dir, name string) error
	// RemoveDir deletes an empty directory.
	RemoveDir(path string) error
	// List returns what a directory holds, sorted by name.
	List(dir string) ([]fs.DirEntry, error)
	// Stat does not follow a symbolic link. Sys of what it returns is a
	// *syscall.Stat_t with Dev, Ino and Nlink.
	Stat(path string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Lock takes the lock of a file, which it makes if need be, until it is closed or
	// the process ends. The error wraps EWOULDBLOCK where another process holds it.
	Lock(path string) (io.Closer, error)
	// Free returns how many bytes the file system of dir can still take from this
	// process.
	Free(dir string) (int64, error)
}

// Reserver is a File that can take room on the disk ahead of use.
type Reserver interface {
	// Reserve takes the room of the first size bytes without a write, nor a change to
	// the file's size. Where the file system can't, it does nothing.
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
	// Sync is fsync(2). After an error nothing is known of what was written since
	// the last nil, also if a later Sync returns nil: the kernel may have dropped
	// the pages and marked them clean.
	Sync() error
	// Datasync is fdatasync(2): like Sync, but for the times of the file.
	Datasync() error
}
