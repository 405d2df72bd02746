package wal

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"collectord/collectord/testrun"
	"collectord/wal/vfs/simdisk"
)

// The simulation runs lives of a log on a simulated disk. Everything random depends on
// a seed, which every failure names. To repeat one life, use -simulate-seed N
// -simulate-states 1. The repetition is not exact, because the runtime chooses which
// goroutine runs next. GODEBUG=asyncpreemptoff=1 makes it more exact.
var (
	simulateSeed      = flag.Uint64("simulate-seed", 1, "first seed of the simulation")
	simulateStates    = flag.Int("simulate-states", 4000/testrun.OneIn(8), "distinct crash states of the simulation")
	simulateEvery     = flag.Int("simulate-every", 40*testrun.OneIn(8), "one in so many failed calls is simulated; 1 for all")
	simulateRecorded  = flag.Int("simulate-recorded", 1, "lives of each kind to record; each is then repeated with failing calls")
	simulateFor       = flag.Duration("simulate-for", time.Hour, "CPU time after which no other life begins")
	simulateProcesses = flag.Int("simulate-processes", 1, "processes of the simulation; each has its own seeds")
)

// TestNoCrashLosesWhatWasAcknowledged runs many lives and starts a log on states that a
// crash after each call may leave. In some lives calls fail or hang, too.
func TestNoCrashLosesWhatWasAcknowledged(t *testing.T) {
	simulate(t, func(t *testing.T, c *tally, first, step int) {
		seed := *simulateSeed + uint64(first)
		for ; len(c.Seen) < c.wantStates && !t.Failed() && cpuTime() < *simulateFor; seed += uint64(step) {
			t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
				cryptotest.SetGlobalRandom(t, seed)
				synctest.Test(t, func(t *testing.T) { randomLife(t, seed, c) })
			})
		}
	})
}

// randomLife runs a life of a random profile.
func randomLife(t *testing.T, seed uint64, c *tally) {
	r := rand.New(rand.NewPCG(seed, 3))
	one := func(in int) bool { return r.IntN(in) == 0 }
	k := profile{evicts: seed%4 == 1, rots: seed%4 == 2 || seed%16 == 1, fills: one(3), jumps: one(3), interval: one(10)}
	var d *faultPlan
	if !k.interval && one(3) {
		d = &faultPlan{tally: c, firstFailed: 1 + r.IntN(500), maxFailed: 1}
		d.fault = simdisk.Fault{Err: syscall.EIO, Applied: one(2), WrittenBytes: r.IntN(100)}
		switch r.IntN(4) {
		case 0: // for a while
			d.maxFailed, d.fault.Applied, d.fault.Err = 1+r.IntN(60), false, []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS}[r.IntN(3)]
		case 1: // after all appenders have given up
			d.unsealedOnly, d.hang = true, time.Duration(1+r.IntN(600))*time.Second
			if one(2) {
				d.fault = simdisk.Fault{}
			}
		default:
			d.fault.Err = errnos[r.IntN(len(errnos))]
		}
	}
	runs := 1 + r.IntN(3)
	if !k.interval && one(8) {
		runs = 3
		k.blind, d = true, &faultPlan{tally: c, blindFromRun: 2, blindToRun: 2 + r.IntN(2)}
	}
	k.tampered = one(3)
	if !k.interval && (d == nil || k.blind) && one(6) {
		refusal := refusedCalls[r.IntN(len(refusedCalls))]
		if d == nil {
			d, k.tampered = &faultPlan{tally: c}, one(2)
		}
		d.always, d.fault = refusal.where, simdisk.Fault{Err: refusal.errno}
	}
	s := newLife(t, seed, k, c, d)
	c.add("lives", 1)
	c.add("kinds of lives: "+k.String(), 1)
	for left := runs; ; left-- {
		if !s.run(15+r.IntN(25)) && !t.Failed() {
			c.add("starts refused: "+d.lastFailed, 1) // only a failed call may cause a refusal
			continue
		}
		if left <= 1 || t.Failed() {
			break
		}
		switch r.IntN(3) {
		case 0:
			s.close()
		case 1:
			s.kill()
		case 2:
			s.restartFromCrash()
		}
		if k.tampered {
			s.tamper()
		}
	}
	s.finish()
}

// simulate runs the simulation, divided among several processes, and adds up their
// counts.
func simulate(t *testing.T, part func(t *testing.T, c *tally, first, step int)) {
	// Only one goroutine runs at a time, so that a seed repeats a life as exactly as
	// possible.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	c := newTally()
	switch {
	case *simulateWorker >= 0:
		c.wantStates = (*simulateStates + *simulateProcesses - 1) / *simulateProcesses
		part(t, c, *simulateWorker, *simulateProcesses)
		c.write(t)
	case *simulateProcesses > 1:
		c.runProcesses(t)
	default:
		c.wantStates = *simulateStates
		part(t, c, 0, 1)
	}
	if *simulateWorker < 0 {
		t.Logf("%s\nin %v", c, time.Since(c.began).Round(time.Millisecond))
	}
}
