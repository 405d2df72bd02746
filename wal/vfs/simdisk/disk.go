package simdisk

import (
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"collectord/wal/vfs"
)

// Op is the name of a method of vfs.FS or vfs.File.
type Op string

// Call is a call of a method of vfs.FS or vfs.File.
type Call struct {
	N    int // number of the call, from 1
	Op   Op
	Path string
	To   string // of Rename
	Dir  bool   // of Rename: it is a directory
	Off  int64  // of Read and Write
	Len  int    // of Read and Write
}

// Fault determines the result of a call. The zero value lets the call succeed.
type Fault struct {
	Err error // returned by the call, or nil
	// Applied lets the call take effect although it returns Err. A failed sync without Done
	// loses any part of the written data, and no later sync recovers it.
	Applied bool
	// WrittenBytes is the number of bytes that a failed Write still writes.
	WrittenBytes int
}

// Disk is a simulated disk. Its methods may be called concurrently.
type Disk struct {
	mu        sync.Mutex // guards all fields below, and all nodes
	pause     func(Call)
	intercept func(Call) Fault
	changed   func(Call, Locked)
	calls     int
	root      *node
	pending   []change // changes of names that are not durable yet, oldest first
	capacity  int64
	used      int64
	locked    map[string]bool
	inodes    uint64 // number of the newest file
	random    func(n int) int
}

// node is a directory or a file. Its names are in directories.
type node struct {
	names   map[string]*node // of a directory; nil for a file
	durable map[string]*node // the names that are durable

	data     []byte
	stable   []byte  // the content that is durable
	unsynced []write // from stable to data, oldest first
	modified time.Time
	links    int    // number of names
	ino      uint64 // inode number
}

// write is a change of a file that is not durable yet. A truncation has no data.
type write struct {
	at   int64
	data []byte
	size int64 // of the file, afterwards
}

// change is a set of changes of names that takes effect as a whole.
type change []entry

// entry assigns a node to a name of a directory; nil deletes the name.
type entry struct {
	dir  *node
	name string
	to   *node
}

// New returns an empty disk of capacity bytes. random returns a number in [0, n) and
// makes every random choice.
func New(capacity int64, random func(n int) int) *Disk {
	return &Disk{root: newDir(), capacity: capacity, random: random}
}

// SetPause sets a hook that is called before each call. The disk is unlocked, and the
// call has no number yet. Calls that pause for different times are numbered in the order
// of those times.
func (d *Disk) SetPause(f func(Call)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pause = f
}

// SetIntercept sets a hook that is called before each call, with the disk unlocked. The
// hook may make the call fail, or block.
func (d *Disk) SetIntercept(f func(Call) Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.intercept = f
}

// SetChanged sets a hook that is called after each call that changed the disk's content
// or made it durable. The hook may use nothing but the Locked that it gets. Once
// SetChanged has returned, the previous hook is neither running nor called again.
func (d *Disk) SetChanged(f func(Call, Locked)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = f
}

func (d *Disk) newFile() *node {
	d.inodes++
	return &node{ino: d.inodes, modified: time.Now()}
}

func newDir() *node {
	return &node{names: map[string]*node{}, durable: map[string]*node{}, modified: time.Now()}
}

// begin numbers a call and gets its fault from the hook. It returns with the disk locked.
// ok is false if the call must not take effect.
func (d *Disk) begin(c Call) (f Fault, ok bool) {
	d.mu.Lock()
	if pause := d.pause; pause != nil {
		d.mu.Unlock()
		pause(c)
		d.mu.Lock()
	}
	d.calls++
	c.N = d.calls
	if c.Op == Rename {
		n, err := d.lookup(c.Path)
		c.Dir = err == nil && n.names != nil
	}
	if intercept := d.intercept; intercept != nil {
		d.mu.Unlock()
		f = intercept(c)
		d.mu.Lock()
	}
	return f, f.Err == nil || f.Applied
}

func (d *Disk) notifyChanged(c Call) {
	if d.changed != nil {
		c.N = d.calls
		d.changed(c, Locked{d})
	}
}

func pathError(c Call, err error) error {
	return &fs.PathError{Op: string(c.Op), Path: c.Path, Err: err}
}

// lookup returns the node at a path, which must be clean.
func (d *Disk) lookup(path string) (*node, error) {
	n := d.root
	for path = strings.Trim(path, "/"); path != "" && path != "."; {
		part, rest, _ := strings.Cut(path, "/")
		if n.names == nil {
			return nil, syscall.ENOTDIR
		}
		if n = n.names[part]; n == nil {
			return nil, syscall.ENOENT
		}
		path = rest
	}
	return n, nil
}

// parent returns the directory of a path, and the path's last element.
func (d *Disk) parent(path string) (*node, string, error) {
	in, name := filepath.Split(path)
	dir, err := d.lookup(in)
	if err == nil && dir.names == nil {
		err = syscall.ENOTDIR
	}
	return dir, name, err
}

// run executes a call that returns only an error.
func (d *Disk) run(c Call, do func() error) error {
	f, ok := d.begin(c)
	defer d.mu.Unlock()
	if c.Op == Rename && !ok { // a missing file is reported before the fault
		if _, err := d.lookup(c.Path); err != nil {
			return pathError(c, err)
		}
	}
	if ok {
		if err := do(); err != nil {
			return pathError(c, err)
		}
		d.notifyChanged(c)
	}
	if f.Err != nil {
		return pathError(c, f.Err)
	}
	return nil
}

// Open implements vfs.FS.
func (d *Disk) Open(path string) (vfs.File, error) { return d.open(path, false) }

// OpenWritable implements vfs.FS.
func (d *Disk) OpenWritable(path string) (vfs.File, error) { return d.open(path, true) }

func (d *Disk) open(path string, writable bool) (vfs.File, error) {
	c := Call{Op: Open, Path: path}
	if writable {
		c.Op = Reopen
	}
	f, _ := d.begin(c)
	defer d.mu.Unlock()
	if f.Err != nil {
		return nil, pathError(c, f.Err)
	}
	n, err := d.lookup(path)
	if err == nil && n.names != nil {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, pathError(c, err)
	}
	return &file{disk: d, node: n, path: path, writable: writable}, nil
}

// Create implements vfs.FS.
func (d *Disk) Create(path string) (vfs.File, error) {
	c := Call{Op: Create, Path: path}
	var n *node
	err := d.run(c, func() error {
		n = d.newFile()
		return d.add(path, n)
	})
	if err != nil {
		return nil, err
	}
	return &file{disk: d, node: n, path: path, writable: true}, nil
}

// runReadOnly executes a call that changes nothing.
func (d *Disk) runReadOnly(c Call, do func() error) error {
	f, _ := d.begin(c)
	defer d.mu.Unlock()
	err := f.Err
	if err == nil {
		err = do()
	}
	if err != nil {
		return pathError(c, err)
	}
	return nil
}

// Stat implements vfs.FS.
func (d *Disk) Stat(path string) (i fs.FileInfo, err error) {
	err = d.runReadOnly(Call{Op: Stat, Path: path}, func() error {
		n, err := d.lookup(path)
		if err == nil {
			i = n.info(filepath.Base(path))
		}
		return err
	})
	return i, err
}
