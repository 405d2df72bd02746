package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"

	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

// TestExchangedNamesAreCorrectedWhereNoDirectoryIsRenamed simulates an overlay
// file system. A power loss or a kill interrupts the starts of a log on it.
func TestExchangedNamesAreCorrectedWhereNoDirectoryIsRenamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 0))
		d := simdisk.New(simulatedRoom, random.IntN)
		options := func(d *simdisk.Disk) Options { return (&life{t: t, disk: d}).options(d) }
		l := openLog(t, simulatedDir, options(d))
		const each = 3 // records of a segment
		for i := range 3 * each {
			if mustAppend(t, l, Record{Usage: usage(i)}); i%each == each-1 {
				mustSeal(t, l)
			}
		}
		sealed, _ := l.Sealed()
		mustClose(t, l)
		a, b := sealed[0].dir, sealed[1].dir
		if err := errors.Join(d.Rename(a, a+"x"), d.Rename(b, a), d.Rename(a+"x", b), d.SyncDir(filepath.Dir(a))); err != nil {
			t.Fatal(err)
		}
		oldDirs := map[string]bool{a: true, b: true} // directories from before, which can't be renamed
		refuse := func(c simdisk.Call) (f simdisk.Fault) {
			if c.Op == simdisk.Rename && oldDirs[c.Path] {
				f.Err = syscall.EXDEV
			}
			return f
		}
		check := func(what string, d *simdisk.Disk) {
			d.SetIntercept(refuse)
			l := openLog(t, simulatedDir, options(d))
			if got := shipAll(t, l); !slices.Equal(got, seqsTo(3*each)) {
				t.Errorf("%s: shipped %v", what, got)
			}
			if notes, err := l.Losses(); len(notes) > 0 || err != nil {
				t.Errorf("%s: noted as lost %v (%v)", what, notes, err)
			}
			mustClose(t, l)
		}
		var left []*simdisk.Disk
		first := d.Kill()
		first.SetChanged(func(_ simdisk.Call, d simdisk.Locked) { left = append(left, d.Crash(), d.Kill()) })
		first.SetIntercept(refuse)
		interrupted := openLog(t, simulatedDir, options(first))
		first.SetChanged(nil)
		mustClose(t, interrupted)
		check("not interrupted", d)
		for n, after := range left {
			check(fmt.Sprintf("interrupted, %d of %d", n, len(left)), after)
		}
	})
}

func TestAMoveOfFilesReplacesNone(t *testing.T) {
	d := simdisk.New(simulatedRoom, func(int) int { return 0 })
	d.SetIntercept(func(c simdisk.Call) (f simdisk.Fault) {
		if c.Op == simdisk.Rename && c.Path == "/a" {
			f.Err = syscall.EXDEV
		}
		return f
	})
	disk := vfs.Disk{FS: d}
	for _, dir := range []string{"/a", "/a" + vfs.MovingSuffix} {
		if err := errors.Join(disk.MkdirDurably(dir), disk.WriteFileDurably(dir+"/x", []byte(dir))); err != nil {
			t.Fatal(err)
		}
	}
	before := listing(d, "/")
	if err := disk.Rename("/a", "/b"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("a move onto an existing file: %v", err)
	}
	if err := disk.UndoMoves("/"); err != nil {
		t.Error(err)
	}
	if got := listing(d, "/"); got != before {
		t.Errorf("the disk has\n%swant\n%s", got, before)
	}
}
