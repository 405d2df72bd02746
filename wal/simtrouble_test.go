package wal

import (
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"collectord/wal/vfs/simdisk"
)

// trouble is what becomes of calls in a life.
type trouble struct {
	mu    sync.Mutex
	calls []simdisk.Op // so far, of all runs
	hit   string       // the last one that failed
	at    int          // the first call that fails, counting from 1
	many  int          // how many fail from there on
	fault simdisk.Fault
	hang  time.Duration           // how long a call hangs before it returns
	only  bool                    // just calls of segments that are not sealed
	where func(simdisk.Call) bool // these fail whenever they come

	blindFrom, blindTo int // the runs in which the disk does not give some pages; 0 is none

	runs    int
	tally   *tally
	matched int
	lost    bool // a sync failed
}

func (d *trouble) intercept(c simdisk.Call) simdisk.Fault {
	d.mu.Lock()
	d.calls = append(d.calls, c.Op)
	hit := len(d.calls) >= d.at && d.matched < d.many && (!d.only || ofUnsealed(c))
	fault := d.fault
	switch {
	case d.where != nil && d.where(c):
		hit = true
	case d.blindFrom > 0:
		hit = d.runs >= d.blindFrom && d.runs <= d.blindTo && c.Op == simdisk.Read && d.isBlind(c)
		fault = simdisk.Fault{Err: syscall.EIO}
	}
	if hit {
		d.matched++
		var errno syscall.Errno // 0 if it only hangs
		errors.As(fault.Err, &errno)
		d.lost = d.lost || c.Op == simdisk.Sync || c.Op == simdisk.Datasync
		d.hit = d.tally.fail(c.Op, errno, d.hang)
	}
	d.mu.Unlock()
	if !hit {
		return simdisk.Fault{}
	}
	time.Sleep(d.hang)
	return fault
}

// refuse is intercept for what follows a life: the disk does not do the same.
func (d *trouble) refuse(c simdisk.Call) simdisk.Fault {
	if d.where(c) {
		return d.fault
	}
	return simdisk.Fault{}
}

// staysBlind reports whether pages are not given after a restart either.
func (d *trouble) staysBlind() bool { return d != nil && d.blindTo > d.blindFrom }

// mayLeaveFrames reports whether what a failed commit has written may be there still:
// it is cut off unless that fails, too.
func (d *trouble) mayLeaveFrames() bool { return d != nil && (d.failed() != 1 || d.hang > 0) }

// refusals are calls that a disk does not do at all.
var refusals = []struct {
	errno syscall.Errno
	where func(c simdisk.Call) bool
}{
	{syscall.EPERM, func(c simdisk.Call) bool { return c.Op == simdisk.Link }}, // as FAT
	{syscall.EXDEV, func(c simdisk.Call) bool { // as an overlay, of directories that were not renamed before
		_, _, ending, ok := parseName(filepath.Base(c.Path))
		return c.Op == simdisk.Rename && c.Dir && ok && ending == "" && filepath.Dir(c.Path) == simulatedDir+"/wal"
	}},
	{syscall.EXDEV, func(c simdisk.Call) bool {
		return c.Op == simdisk.Rename && filepath.Dir(c.To) == inQuarantine && filepath.Dir(c.Path) != inQuarantine
	}},
}

func (d *trouble) begin() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.runs++
}

func (d *trouble) isBlind(c simdisk.Call) bool {
	first, _, _, ok := parseName(filepath.Base(filepath.Dir(c.Path)))
	page := int64(first%3) * pageSize // some segments are shorter
	return ok && c.Off < page+pageSize && c.Off+int64(c.Len) > page
}

func (d *trouble) lied() bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

func (d *trouble) failed() int {
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.matched
}
