package wal

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs/simdisk"
)

// TestAStartKeepsTheBytesOfASegmentWithoutRecords damages the only record of a log. A start
// that can't move the damaged bytes to the quarantine must not delete them.
func TestAStartKeepsTheBytesOfASegmentWithoutRecords(t *testing.T) {
	toQuarantine := func(c simdisk.Call) bool { return strings.Contains(c.Path+c.To, "/"+quarantineName+"/") }
	for name, c := range map[string]struct {
		damage func(content []byte)
		fails  func(c simdisk.Call) bool
		errno  syscall.Errno
	}{
		"the frame is damaged, and the disk is full": {
			func(content []byte) { content[bytes.Index(content, usage(0))] ^= 1 },
			func(c simdisk.Call) bool { return c.Op == simdisk.Create && toQuarantine(c) },
			syscall.ENOSPC,
		},
		"the header is damaged, too, and the segment can't be renamed": {
			func(content []byte) { clear(content[:bytes.Index(content, usage(0))+1]) },
			func(c simdisk.Call) bool {
				return c.Op == simdisk.Rename && (toQuarantine(c) || strings.Contains(c.To, asideMark))
			},
			syscall.EIO,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newSimulatedDisk(t)
				l, err := Open(simulatedDir, startTrial{}.options(d, t))
				if err != nil {
					t.Fatal(err)
				}
				mustAppend(t, l, Record{Usage: usage(0)})
				killed := d.Kill()
				mustClose(t, l)
				d = killed
				if err := d.Edit(filepath.Join(simulatedDir, "wal", segment.ActiveName(1), segment.FileName), func(content []byte) []byte {
					c.damage(content)
					return content
				}); err != nil {
					t.Fatal(err)
				}
				d.SetIntercept(func(call simdisk.Call) simdisk.Fault {
					if c.fails(call) {
						return simdisk.Fault{Err: c.errno}
					}
					return simdisk.Fault{}
				})
				for range 2 { // the second start finds a disk that works
					if l, err = Open(simulatedDir, startTrial{}.options(d, t)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Minute)
					mustClose(t, l)
					kept := false
					d.Walk(simulatedDir, func(_ string, content []byte) { kept = kept || bytes.Contains(content, usage(0)[1:]) })
					if !kept {
						t.Fatal("the bytes were deleted")
					}
					d = d.Kill()
				}
			})
		})
	}
}

// TestACallThatFailsOnceKeepsTheFileOfATail gives the end of an unsealed segment a name of its
// own, as an interrupted start does. The start must ship the records of both names although
// one of its calls fails.
func TestACallThatFailsOnceKeepsTheFileOfATail(t *testing.T) {
	t.Parallel()
	var s startTrial
	synctest.Test(t, func(t *testing.T) {
		d := newSimulatedDisk(t)
		l, err := Open(simulatedDir, s.options(d, t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			mustAppend(t, l, Record{Usage: usage(i)})
		}
		s.disk = d.Kill()
		mustClose(t, l)
	})
	dir := filepath.Join(simulatedDir, "wal")
	tail := filepath.Join(dir, tailName(3, 4))
	if err := errors.Join(s.disk.Mkdir(tail), s.disk.Link(filepath.Join(dir, segment.ActiveName(1), segment.FileName), filepath.Join(tail, segment.FileName))); err != nil {
		t.Fatal(err)
	}
	var want string
	synctest.Test(t, func(t *testing.T) { want, _, _ = s.outcome(t, 0, syscall.EIO) })
	if !strings.HasPrefix(want, "shipped [1 2 3], lost []") {
		t.Fatalf("without a failed call: %s", want)
	}
	for at := 1; at <= s.calls && !t.Failed(); at++ {
		synctest.Test(t, func(t *testing.T) {
			if got, _, call := s.outcome(t, at, syscall.EIO); got != want {
				t.Errorf("call %d (%s %s) failed once: %s\nwithout: %s", at, call.Op, call.Path, got, want)
			}
		})
	}
}
