package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"collectord/collectord/testrun"
	"collectord/wal/segment"
	"collectord/wal/vfs"
)

func TestKilledDaemonLosesNothing(t *testing.T) {
	dir, _ := crashedDir(t, 20)
	checkReopened(t, dir, 20)
}

func TestTornTailIsCutAtEveryByte(t *testing.T) {
	dir, file := crashedDir(t, 3)
	ends := frameEnds(t, file)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string]func(tail []byte) []byte{
		"cut":         func([]byte) []byte { return nil },
		"zero-filled": func(tail []byte) []byte { return make([]byte, len(tail)+100) },
		"garbage":     func(tail []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(tail)+3) },
	}
	whole = whole[:ends[3]]
	for at := ends[0]; at < int64(len(whole)); at += int64(testrun.OneIn(3)) {
		survive := 0
		for survive+1 < len(ends) && ends[survive+1] <= at {
			survive++
		}
		for name, tail := range damage {
			if name != "cut" && at%7 != 0 {
				continue // these take longer and differ little from byte to byte
			}
			t.Run(fmt.Sprintf("%s at %d", name, at), func(t *testing.T) {
				t.Parallel()
				copied := memoryDir(t)
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				torn := append(bytes.Clone(whole[:at]), tail(whole[at:])...)
				if err := os.WriteFile(filepath.Join(copied, "wal", segment.ActiveName(1), segment.FileName), torn, 0o640); err != nil {
					t.Fatal(err)
				}
				checkReopened(t, copied, survive)
			})
		}
	}
}

func TestTornBytesAreQuarantined(t *testing.T) {
	dir, file := crashedDir(t, 2)
	ends := frameEnds(t, file)
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("not a frame"), ends[2]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	checkReopened(t, dir, 2)
	kept, _ := filepath.Glob(filepath.Join(dir, "wal", quarantineName, "*.bin"))
	if len(kept) != 1 {
		t.Fatalf("quarantine contains %v", kept)
	}
	if b, _ := os.ReadFile(kept[0]); string(b) != "not a frame" {
		t.Errorf("quarantine contains %q", b)
	}
}

func TestASegmentWithoutAReadableHeaderIsPutAside(t *testing.T) {
	for _, content := range []string{"", "garbage, garbage, garbage, garbage, garbage, garbage"} {
		dir, file := crashedDir(t, 2)
		if err := os.WriteFile(file, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		l := openLog(t, dir, Options{})
		if n := len(readAll(t, l)); n != 0 {
			t.Errorf("%d records from a file of garbage", n)
		}
		checkLedger(t, l)
		kept, _ := filepath.Glob(filepath.Join(dir, "wal", quarantineName, segment.ActiveName(1)+"-*"))
		if len(kept) != 1 {
			t.Errorf("quarantine contains %v", kept)
		}
	}
}

func TestFramesInNextAreFound(t *testing.T) {
	// A power loss may undo the rename of a roll, but not the records that were synced
	// since.
	dir, _ := crashedDir(t, 4)
	log := filepath.Join(dir, "wal")
	if err := os.RemoveAll(filepath.Join(log, nextName)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(log, segment.ActiveName(1)), filepath.Join(log, nextName)); err != nil {
		t.Fatal(err)
	}
	checkReopened(t, dir, 4)
}

func TestAnInterruptedRemovalKeepsTheNextSeq(t *testing.T) {
	dir, _ := crashedDir(t, 4)
	log := filepath.Join(dir, "wal")
	if err := os.Rename(filepath.Join(log, segment.ActiveName(1)), filepath.Join(log, segment.SealedName(1, 4)+goneSuffix)); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{})
	mustAppend(t, l, Record{Usage: usage(1)})
	mustSeal(t, l)
	if s, _ := l.Sealed(); len(s) != 1 || s[0].FirstSeq() != 5 {
		t.Errorf("segments %v, want one from seq 5", s)
	}
	if gone, _ := filepath.Glob(filepath.Join(log, "*"+goneSuffix)); len(gone) > 0 {
		t.Errorf("left over: %v", gone)
	}
}

func TestUnacknowledgedFramesAboveTheNextSegmentAreDiscarded(t *testing.T) {
	dir, _ := crashedDir(t, 4)
	// A segment from seq 3 means that 1 and 2 were acknowledged before it.
	l := openLog(t, t.TempDir(), Options{})
	if err := l.Append(context.Background(), Record{Usage: usage(0)}, Record{Usage: usage(1)}); err != nil {
		t.Fatal(err)
	}
	mustSeal(t, l)
	mustAppend(t, l, Record{Usage: usage(2)})
	if err := os.CopyFS(filepath.Join(dir, "wal", segment.ActiveName(3)), os.DirFS(filepath.Join(l.dir, segment.ActiveName(3)))); err != nil {
		t.Fatal(err)
	}
	checkReopened(t, dir, 3)
}

func TestSealedSegmentWithoutItsFileIsCountedAsQuarantined(t *testing.T) {
	dir, _ := crashedDir(t, 1)
	if err := os.Rename(filepath.Join(dir, "wal", segment.ActiveName(1)), filepath.Join(dir, "wal", segment.SealedName(1, 5))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "wal", segment.SealedName(1, 5), segment.FileName)); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{})
	if g := checkLedger(t, l); g.Quarantined != 5 {
		t.Errorf("ledger %+v", g)
	}
}

func TestADamagedSegmentReportsItsOffset(t *testing.T) {
	dir, file := crashedDir(t, 3)
	ends := frameEnds(t, file)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{}) // the start seals the segment
	s, _ := l.Sealed()
	b[ends[1]+60] ^= 1
	if err := os.WriteFile(s[0].path(), b, 0o640); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range s[0].Records() {
		if err == nil {
			n++
			continue
		}
		var damage *DamageError
		if !errors.As(err, &damage) || damage.Offset != ends[1] {
			t.Errorf("error %v, want damage at byte %d", err, ends[1])
		}
	}
	if n != 1 {
		t.Errorf("%d records before the damage, want 1", n)
	}
}

// TestAStartReadsASegmentOnce: reading a large segment takes most of the time of a
// start, although most of an unsealed one may be zeros.
func TestAStartReadsASegmentOnce(t *testing.T) {
	const size = 4 << 20
	l := openLog(t, t.TempDir(), Options{SegmentSize: size})
	mustAppend(t, l, Record{Usage: usage(0)})
	until(t, "the next segment is prepared", func() bool {
		info, err := os.Stat(filepath.Join(l.dir, nextName, segment.FileName))
		return err == nil && info.Size() > 0
	})
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "wal"), os.DirFS(l.dir)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	names := []string{segment.ActiveName(1), nextName}
	for _, name := range names { // zeros that are written ahead are not a hole
		path := filepath.Join(dir, "wal", name, segment.FileName)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(content, make([]byte, size-len(content))...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := map[string]int{} // by directory; a start has one goroutine
	o := Options{}.WithReads(func(f vfs.File, p []byte, off int64) (int, error) {
		n, err := f.ReadAt(p, off)
		read[filepath.Base(filepath.Dir(f.Name()))] += n
		return n, err
	})
	mustClose(t, openLog(t, dir, o))
	for _, name := range names {
		if n := read[name]; n < size || n > size+size/8 {
			t.Errorf("%d bytes were read of %s, which has %d", n, name, size)
		}
	}
}
