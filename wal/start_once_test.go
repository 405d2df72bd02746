package wal

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

// unusualStarts are directories on which a start reads files to decide what to put aside or to
// delete. make changes a log with the segments 1-3, 4-6, 7-9 and the unsealed 10.
var unusualStarts = map[string]func(d vfs.Disk, log string) error{
	"a stray has the name of removed records": func(d vfs.Disk, log string) error {
		return errors.Join(removeSegment(d, filepath.Join(log, segment.SealedName(4, 6))), makeStray(d, filepath.Join(log, segment.ActiveName(5))))
	},
	"a stray has the name of a segment's record": func(d vfs.Disk, log string) error {
		return makeStray(d, filepath.Join(log, segment.ActiveName(5)))
	},
	"a stray has a sealed name above an unsealed segment": func(d vfs.Disk, log string) error {
		return makeStray(d, filepath.Join(log, segment.SealedName(11, 12)))
	},
	"salvage has a segment": func(d vfs.Disk, log string) error {
		return copySegment(d, filepath.Join(log, segment.SealedName(4, 6)), filepath.Join(log, salvageName, segment.SealedName(4, 6)))
	},
	"salvage has a link to a segment": func(d vfs.Disk, log string) error {
		return linkSegment(d, filepath.Join(log, segment.SealedName(4, 6)), filepath.Join(log, salvageName, unreadName(5, 5)))
	},
	"a sealed segment has a second name": func(d vfs.Disk, log string) error {
		return linkSegment(d, filepath.Join(log, segment.SealedName(4, 6)), filepath.Join(log, unreadName(5, 5)))
	},
	"a removed segment is a piece of another": func(d vfs.Disk, log string) error {
		return copySegment(d, filepath.Join(log, segment.SealedName(4, 6)), filepath.Join(log, segment.SealedName(5, 6)))
	},
}

func removeSegment(d vfs.Disk, dir string) error {
	return errors.Join(d.Remove(filepath.Join(dir, segment.FileName)), d.RemoveDir(dir))
}

func makeStray(d vfs.Disk, dir string) error { return makeSegment(d, dir, []byte("not a segment")) }

func makeSegment(d vfs.Disk, dir string, content []byte) error {
	return errors.Join(d.MkdirDurably(dir), d.WriteFileDurably(filepath.Join(dir, segment.FileName), content))
}

// copySegment copies the file of a segment to a new directory.
func copySegment(d vfs.Disk, from, to string) error {
	content, err := d.ReadFile(filepath.Join(from, segment.FileName))
	return errors.Join(err, makeSegment(d, to, content))
}

// linkSegment makes a new directory with a hard link to the file of a segment.
func linkSegment(d vfs.Disk, from, to string) error {
	return errors.Join(d.MkdirDurably(to), d.Link(filepath.Join(from, segment.FileName), filepath.Join(to, segment.FileName)), d.SyncDir(to))
}

// TestACallThatFailsOnceChangesNothingOfAnUnusualStart lets each call of a start fail, one in each
// start. The start must ship, note and put aside the same as a start without a failed call.
func TestACallThatFailsOnceChangesNothingOfAnUnusualStart(t *testing.T) {
	t.Parallel()
	var killed *simdisk.Disk
	synctest.Test(t, func(t *testing.T) { killed = tenRecords(t) })
	for name, c := range unusualStarts {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.EACCES, syscall.EMFILE} {
			t.Run(name+", "+unix.ErrnoName(errno), func(t *testing.T) {
				t.Parallel()
				s := startTrial{disk: killed.Kill()}
				if err := c(vfs.Disk{FS: s.disk}, filepath.Join(simulatedDir, "wal")); err != nil {
					t.Fatal(err)
				}
				var want, wantAside string
				synctest.Test(t, func(t *testing.T) { want, wantAside, _ = s.outcome(t, 0, errno) })
				step := *startStep
				if errno == syscall.EIO {
					step = max(1, step/9)
				}
				for at := 1 + int(errno)%step; at <= s.calls; at += step {
					synctest.Test(t, func(t *testing.T) {
						got, aside, call := s.outcome(t, at, errno)
						if got != want || aside != wantAside && isTransient(errno) { // other errors may make the start put aside more
							t.Errorf("call %d (%s %s) failed once: %s; put aside %s\nwithout: %s; put aside %s", at, call.Op, call.Path, got, aside, want, wantAside)
						}
					})
				}
			})
		}
	}
}

// TestAFileThatCanNeverBeReadIsPutAsideOrLeft lets each attempt to open a file fail that decides
// what the start deletes or puts aside. The records of the other segments must be shipped.
func TestAFileThatCanNeverBeReadIsPutAsideOrLeft(t *testing.T) {
	var killed *simdisk.Disk
	synctest.Test(t, func(t *testing.T) { killed = tenRecords(t) })
	for name, c := range map[string]struct {
		start, unreadable string
		errno             syscall.Errno
		unread            []uint64
		quarantined       bool
	}{
		"a copy in salvage, EIO":    {"salvage has a segment", "/" + salvageName + "/", syscall.EIO, nil, true},
		"a copy in salvage, EACCES": {"salvage has a segment", "/" + salvageName + "/", syscall.EACCES, nil, true},
		"a stray, EIO":              {"a stray has the name of a segment's record", "/" + segment.ActiveName(5) + "/", syscall.EIO, []uint64{5}, false},
		"a stray, EACCES":           {"a stray has the name of removed records", "/" + segment.ActiveName(5) + "/", syscall.EACCES, []uint64{5}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := killed.Kill()
				if err := unusualStarts[c.start](vfs.Disk{FS: d}, filepath.Join(simulatedDir, "wal")); err != nil {
					t.Fatal(err)
				}
				d.SetIntercept(func(call simdisk.Call) simdisk.Fault {
					if call.Op == simdisk.Open && strings.Contains(call.Path, c.unreadable) {
						return simdisk.Fault{Err: c.errno}
					}
					return simdisk.Fault{}
				})
				l := mustStart(t, d)
				time.Sleep(5 * time.Minute)
				want := seqsTo(10)
				if c.start == "a stray has the name of removed records" {
					want = without(want, []uint64{4, 5, 6})
				}
				if shipped := shipAll(t, l); !slices.Equal(shipped, want) {
					t.Errorf("shipped %v, want %v", shipped, want)
				}
				if lost, skipped := notedSeqs(t, l); len(lost)+len(skipped) > 0 {
					t.Errorf("noted %v and %v", lost, skipped)
				}
				if unread := seqsOfRanges(l.Unread()); !slices.Equal(unread, c.unread) {
					t.Errorf("unread %v, want %v", unread, c.unread)
				}
				entries, err := d.List(filepath.Join(simulatedDir, "wal", quarantineName))
				if err != nil && !errors.Is(err, fs.ErrNotExist) || (len(entries) > 0) != c.quarantined {
					t.Errorf("%d entries in the quarantine, %v", len(entries), err)
				}
				mustClose(t, l)
			})
		})
	}
}

// A salvage reads what has the name of one of its pieces. If one call fails, it is repeated, and
// puts no copy aside.
func TestACallThatFailsOncePutsNoCopyOfAPieceAside(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.EMFILE} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := tenRecords(t)
				log := filepath.Join(simulatedDir, "wal")
				l := mustStart(t, d)
				file := filepath.Join(log, segment.SealedName(4, 6), segment.FileName)
				piece := filepath.Join(log, segment.SealedName(6, 6))
				if err := errors.Join(
					copySegment(vfs.Disk{FS: d}, filepath.Dir(file), piece),
					d.Edit(file, func(data []byte) []byte { data[bytes.Index(data, usage(4))] ^= 1; return data }),
					d.Edit(filepath.Join(piece, segment.FileName), func(data []byte) []byte { data[bytes.Index(data, usage(4))] ^= 1; return data }),
				); err != nil {
					t.Fatal(err)
				}
				failed := false
				d.SetIntercept(func(c simdisk.Call) simdisk.Fault {
					if failed || c.Op != simdisk.Open || filepath.Dir(c.Path) != piece {
						return simdisk.Fault{}
					}
					failed = true
					return simdisk.Fault{Err: errno}
				})
				for _, one := range sealedOf(l) {
					if _, err := l.Salvage(one); err != nil && !errors.Is(err, errno) {
						t.Error(err)
					}
				}
				if shipped := shipAll(t, l); !failed || !slices.Equal(shipped, without(seqsTo(10), []uint64{5})) {
					t.Errorf("shipped %v; the call failed: %t", shipped, failed)
				}
				d.Walk(filepath.Join(log, quarantineName), func(path string, content []byte) {
					if bytes.Contains(content, usage(5)) { // only the damaged record belongs there
						t.Errorf("%s has record 6", path)
					}
				})
				checkLedger(t, l)
				mustClose(t, l)
			})
		})
	}
}

func sealedOf(l *Log) []*Segment {
	all, _ := l.Sealed()
	return all
}

// TestAnInaccessibleUnreadBlocksNoOtherSalvage: nobody can enter a part of another segment.
func TestAnInaccessibleUnreadBlocksNoOtherSalvage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := tenRecords(t)
		log := filepath.Join(simulatedDir, "wal")
		other, file := filepath.Join(log, unreadName(1, 3)), filepath.Join(log, segment.SealedName(4, 6), segment.FileName)
		if err := disk.Rename(filepath.Join(log, segment.SealedName(1, 3)), other); err != nil {
			t.Fatal(err)
		}
		var bad atomic.Bool
		disk.SetIntercept(func(c simdisk.Call) (f simdisk.Fault) {
			switch {
			case strings.HasPrefix(c.Path, other+"/"):
				f.Err = syscall.EACCES
			case bad.Load() && c.Op == simdisk.Read && c.Path == file:
				f.Err = syscall.EIO
			}
			return f
		})
		l := mustStart(t, disk)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		bad.Store(true)
		all, _ := l.Sealed()
		i := slices.IndexFunc(all, func(s *Segment) bool { return s.first == 4 })
		if i < 0 {
			t.Fatalf("no segment: %v", all)
		}
		for attempt := 1; ; attempt++ { // the first ones read the pages again
			_, err := l.Salvage(all[i])
			if err == nil {
				break
			}
			if attempt == 6 {
				t.Fatal(err)
			}
		}
		mustClose(t, l)
	})
}
