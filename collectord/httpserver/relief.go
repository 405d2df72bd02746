package httpserver

import (
	"sync/atomic"
	"time"
)

// relief passes a loop to another goroutine while a commit keeps the loop's goroutine for
// long. A slow or hanging disk must not keep the loop from rejecting requests, or from
// enforcing deadlines.
type relief struct {
	takeOver func() // runs the loop
	timer    *time.Timer

	begun      uint64        // number of the last commit of this loop; only the goroutine that runs it uses it
	committing atomic.Uint64 // number of the commit that is being written, or 0
	seen       atomic.Uint64 // former value of committing, at the last check
	checking   atomic.Bool   // the timer runs
}

// commitPatience is the interval of checks. A commit that two checks have seen, and that so
// takes one to two of these intervals, loses the loop to another goroutine.
const commitPatience = 2 * time.Millisecond

func (r *relief) init(takeOver func()) {
	r.takeOver = takeOver
	r.timer = time.AfterFunc(time.Hour, r.check)
	r.timer.Stop()
}

// begin begins a commit and returns its number.
func (r *relief) begin() (number uint64) {
	r.begun++
	number = r.begun
	r.committing.Store(number)
	r.startChecking()
	return number
}

// end ends a commit. It reports whether the caller still runs the loop.
func (r *relief) end(number uint64) (runs bool) { return r.committing.CompareAndSwap(number, 0) }

// startChecking starts the timer unless it runs. A restart for each commit would wake a
// thread of the runtime.
func (r *relief) startChecking() {
	if r.checking.CompareAndSwap(false, true) {
		r.timer.Reset(commitPatience)
	}
}

// check takes the loop over if the last check has seen the same commit.
func (r *relief) check() {
	number := r.committing.Load()
	isLate := number != 0 && r.seen.Swap(number) == number && r.end(number)
	r.checking.Store(false)
	switch {
	case isLate:
		r.takeOver()
	case r.committing.Load() != 0:
		r.startChecking()
	}
}
