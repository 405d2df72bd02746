package wal

import (
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"collectord/wal/vfs/simdisk"
)

// faultPlan is what becomes of calls in a life.
type faultPlan struct {
	mu           sync.Mutex
	calls        []simdisk.Op // so far, of all runs
	lastFailed   string       // the last one that failed
	firstFailed  int          // the first call that fails, counting from 1
	maxFailed    int          // how many fail from there on
	fault        simdisk.Fault
	hang         time.Duration           // how long a call hangs before it returns
	unsealedOnly bool                    // just calls of segments that are not sealed
	always       func(simdisk.Call) bool // these fail whenever they come

	blindFromRun, blindToRun int // the runs in which the disk does not give some pages; 0 is none

	runs        int
	tally       *tally
	failedCalls int
	syncFailed  bool // a sync failed
}

func (d *faultPlan) intercept(c simdisk.Call) simdisk.Fault {
	d.mu.Lock()
	d.calls = append(d.calls, c.Op)
	hit := len(d.calls) >= d.firstFailed && d.failedCalls < d.maxFailed && (!d.unsealedOnly || ofUnsealed(c))
	fault := d.fault
	switch {
	case d.always != nil && d.always(c):
		hit = true
	case d.blindFromRun > 0:
		hit = d.runs >= d.blindFromRun && d.runs <= d.blindToRun && c.Op == simdisk.Read && d.isBlind(c)
		fault = simdisk.Fault{Err: syscall.EIO}
	}
	if hit {
		d.failedCalls++
		var errno syscall.Errno // 0 if it only hangs
		errors.As(fault.Err, &errno)
		d.syncFailed = d.syncFailed || c.Op == simdisk.Sync || c.Op == simdisk.Datasync
		d.lastFailed = d.tally.fail(c.Op, errno, d.hang)
	}
	d.mu.Unlock()
	if !hit {
		return simdisk.Fault{}
	}
	time.Sleep(d.hang)
	return fault
}

// refuse is intercept for what follows a life: the disk does not do the same.
func (d *faultPlan) refuse(c simdisk.Call) simdisk.Fault {
	if d.always(c) {
		return d.fault
	}
	return simdisk.Fault{}
}

// staysBlind reports whether pages are not given after a restart either.
func (d *faultPlan) staysBlind() bool { return d != nil && d.blindToRun > d.blindFromRun }

// mayLeaveFrames reports whether what a failed commit has written may be there still:
// it is cut off unless that fails, too.
func (d *faultPlan) mayLeaveFrames() bool { return d != nil && (d.failures() != 1 || d.hang > 0) }

// refusedCalls are calls that a disk does not do at all.
var refusedCalls = []struct {
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

func (d *faultPlan) begin() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.runs++
}

func (d *faultPlan) isBlind(c simdisk.Call) bool {
	first, _, _, ok := parseName(filepath.Base(filepath.Dir(c.Path)))
	page := int64(first%3) * pageSize // some segments are shorter
	return ok && c.Off < page+pageSize && c.Off+int64(c.Len) > page
}

func (d *faultPlan) hasFailedSync() bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncFailed
}

func (d *faultPlan) failures() int {
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failedCalls
}
