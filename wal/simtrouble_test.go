package wal

import (
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"collectord/wal/vfs/simdisk"
)

type trouble struct {
	mu      sync.Mutex
	calls   []simdisk.Op // so far, of all runs
	hit     string       // the last one that failed
	at      int          // the first call that fails, counting from 1
	many    int          // how many fail from there on
	fault   simdisk.Fault
	hang    time.Duration // how long a call hangs before it returns
	only    bool          // just calls of segments that are not sealed
	blindIn int           // the run in which the disk does not give some pages; 0 is none
	runs    int
	tally   *tally
	matched int
	lost    bool // a sync failed
}

func (d *trouble) intercept(c simdisk.Call) simdisk.Fault {
	d.mu.Lock()
	d.calls = append(d.calls, c.Op)
	hit := len(d.calls) >= d.at && d.matched < d.many && (!d.only || ofUnsealed(c))
	if d.blindIn > 0 {
		hit = d.runs == d.blindIn && c.Op == simdisk.Read && d.isBlind(c)
	}
	if hit {
		d.matched++
		var errno syscall.Errno // 0 if it only hangs
		errors.As(d.fault.Err, &errno)
		d.lost = d.lost || c.Op == simdisk.Sync || c.Op == simdisk.Datasync
		d.hit = d.tally.fail(c.Op, errno, d.hang)
	}
	d.mu.Unlock()
	if !hit {
		return simdisk.Fault{}
	}
	time.Sleep(d.hang)
	return d.fault
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
