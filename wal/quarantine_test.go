package wal

import (
	"bytes"
	"math/rand/v2"
	"syscall"
	"testing"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

// TestQuarantinedBytesSurviveACrashAfterASecondAttempt ends the first attempt by a
// failed sync, which a second sync does not repair, or by a kill.
func TestQuarantinedBytesSurviveACrashAfterASecondAttempt(t *testing.T) {
	for _, isKilled := range []bool{false, true} {
		for seed := range uint64(50) {
			d := simdisk.New(simulatedRoom, rand.New(rand.NewPCG(seed, 0)).IntN)
			quarantine := func(d *simdisk.Disk) error {
				b := []byte(foreignContent)
				one := &base{disk: vfs.Disk{FS: d}, dir: simulatedDir}
				return one.quarantineBytes("x", "x", bytes.NewReader(b), segment.ByteRange{To: int64(len(b))}, errInTheWay)
			}
			var killed *simdisk.Disk
			failed := false
			d.SetIntercept(func(c simdisk.Call) (f simdisk.Fault) {
				if c.Op == simdisk.Sync && !failed {
					failed = true
					f.Err = syscall.EIO
					killed = d.Kill()
				}
				return f
			})
			if err := quarantine(d); err == nil {
				t.Fatal("the sync did not fail")
			}
			if isKilled {
				d = killed
			}
			if err := quarantine(d); err != nil {
				t.Fatal(err)
			}
			if !diskContains(d.Crash(), simulatedDir, []byte(foreignContent)) {
				t.Errorf("killed %t, seed %d: the bytes are lost", isKilled, seed)
			}
		}
	}
}
