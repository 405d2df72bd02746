package wal

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/cryptotest"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"collectord/wal/vfs/simdisk"
)

// errnos are the errors of simulated calls.
var errnos = []syscall.Errno{
	syscall.EIO, syscall.ESTALE, syscall.EACCES, syscall.EMFILE, syscall.ENFILE, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.EXDEV,
}

// canReturn reports whether a call can return an error, and whether it can take effect
// nevertheless, as on a network file system or with a failing journal.
func canReturn(op simdisk.Op, errno syscall.Errno) (can, applied bool) {
	in := func(ops ...simdisk.Op) bool { return slices.Contains(ops, op) }
	onDescriptor := in(simdisk.Read, simdisk.Write, simdisk.Truncate, simdisk.Sync, simdisk.Datasync, simdisk.Close, simdisk.Reserve)
	names := in(simdisk.Create, simdisk.Mkdir, simdisk.Rename, simdisk.Link, simdisk.Remove, simdisk.RemoveDir)
	syncs := in(simdisk.Sync, simdisk.Datasync, simdisk.SyncDir)
	changes := names || syncs || in(simdisk.Truncate)
	switch errno {
	case syscall.EIO, syscall.ESTALE:
		return true, changes
	case syscall.EACCES:
		return !onDescriptor, false
	case syscall.EMFILE, syscall.ENFILE:
		return in(simdisk.Open, simdisk.Reopen, simdisk.Create, simdisk.List, simdisk.SyncDir, simdisk.Lock), false
	case syscall.EROFS:
		return names || in(simdisk.Reopen, simdisk.Truncate, simdisk.Write, simdisk.Lock), false
	case syscall.ENOSPC, syscall.EDQUOT:
		return names && !in(simdisk.Remove, simdisk.RemoveDir) || syncs || in(simdisk.Write, simdisk.Truncate, simdisk.Lock, simdisk.Reserve, simdisk.Close), syncs
	default:
		return in(simdisk.Rename, simdisk.Link), false
	}
}

// callProfiles are the profiles of the lives in which every call fails in turn.
var callProfiles = []profile{{}, {evicts: true}, {rots: true}, {evicts: true, rots: true}}

// TestNoFailedCallLosesWhatWasAcknowledged records the calls of a life of each profile,
// with a kill and a power loss. It then repeats the life for each call and each error
// that this call can return, before and after the call took effect.
func TestNoFailedCallLosesWhatWasAcknowledged(t *testing.T) {
	simulate(t, func(t *testing.T, c *tally, first, step int) {
		i := 0
		for life := range *simulateRecorded * len(callProfiles) {
			seed, k := *simulateSeed+uint64(life), callProfiles[life%len(callProfiles)]
			calls := recordCalls(t, seed, k)
			c.add("calls recorded", len(calls)/step)
			for n, op := range calls {
				for _, errno := range errnos {
					can, applied := canReturn(op, errno)
					for _, after := range []bool{false, true} {
						if !can || after && !applied {
							continue
						}
						if i++; i/step%*simulateEvery != 0 || i%step != first || cpuTime() > *simulateFor {
							continue
						}
						f := simdisk.Fault{Err: errno, Applied: after, WrittenBytes: n % 64}
						name := fmt.Sprintf("%s/%d-%s-%s-after=%t", k, n+1, op, unix.ErrnoName(errno), after)
						if t.Run(name, func(t *testing.T) {
							runLife(t, seed, k, c, &faultPlan{tally: c, firstFailed: n + 1, maxFailed: 1, fault: f})
						}); t.Failed() {
							return
						}
					}
				}
			}
		}
	})
}

// recordCalls returns the calls of a life without faults.
func recordCalls(t *testing.T, seed uint64, k profile) []simdisk.Op {
	d := &faultPlan{tally: newTally()}
	t.Run("recorded", func(t *testing.T) { runLife(t, seed, k, newTally(), d) })
	return d.calls
}

// runLife runs a short life with a fault plan.
func runLife(t *testing.T, seed uint64, k profile, c *tally, d *faultPlan) {
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		s := newLife(t, seed, k, c, d)
		c.add("lives", 1)
		for run := range 3 {
			switch run {
			case 1:
				s.kill()
			case 2:
				s.losePower()
			}
			for !s.run(10) && !t.Failed() {
				c.add("starts refused: "+d.lastFailed, 1)
			}
		}
		s.finish()
	})
}
