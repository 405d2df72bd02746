package wal

import (
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"collectord/wal/vfs/simdisk"
)

// faultPlan determines which calls of a life fail or hang.
type faultPlan struct {
	mu           sync.Mutex
	calls        []simdisk.Op // calls so far, in all runs
	lastFailed   string       // the last call that failed
	firstFailed  int          // the first call that fails, counting from 1
	maxFailed    int          // max number of calls that fail from there on
	fault        simdisk.Fault
	hang         time.Duration           // how long a call hangs before it returns
	unsealedOnly bool                    // only calls for unsealed segments fail
	always       func(simdisk.Call) bool // calls for which it returns true always fail

	blindFromRun, blindToRun int // the runs in which some pages can't be read; 0 for none

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
		d.lastFailed = d.tally.countFailedCall(c.Op, errno, d.hang)
	}
	d.mu.Unlock()
	if !hit {
		return simdisk.Fault{}
	}
	time.Sleep(d.hang)
	return fault
}

// refuse is intercept after the end of a life: only the calls that always fail continue to fail.
func (d *faultPlan) refuse(c simdisk.Call) simdisk.Fault {
	if d.always(c) {
		return d.fault
	}
	return simdisk.Fault{}
}

// staysBlind reports whether pages stay unreadable after a restart.
func (d *faultPlan) staysBlind() bool { return d != nil && d.blindToRun > d.blindFromRun }

// mayLeaveFrames reports whether frames of a failed commit may remain. They are cut off
// unless that fails, too.
func (d *faultPlan) mayLeaveFrames() bool { return d != nil && (d.failures() != 1 || d.hang > 0) }

// refusedCalls are calls that some file systems do not support.
var refusedCalls = []struct {
	errno syscall.Errno
	where func(c simdisk.Call) bool
}{
	{syscall.EPERM, func(c simdisk.Call) bool { return c.Op == simdisk.Link }}, // as on FAT
	{syscall.EXDEV, func(c simdisk.Call) bool { // as on an overlay, for directories that were not renamed before
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
