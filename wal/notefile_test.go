package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

func noteOf(first, last uint64) LossNote {
	return LossNote{Node: "edge-1", LogID: 7, FirstSeq: first, LastSeq: last, Reason: LossEvicted, At: time.UnixMicro(1e15).UTC()}
}

// TestOnlyIntactNotesAreUploaded also checks what happens to damaged notes.
func TestOnlyIntactNotesAreUploaded(t *testing.T) {
	good := noteOf(1, 2)
	flipped := slices.Clone(noteOf(3, 4).encode())
	flipped[len(flipped)-20] ^= 1
	body, _, _ := cutLast(strings.Replace(string(noteOf(5, 6).encode()), "collectord-loss 1 ", "collectord-loss 2 ", 1), " ")
	later := fmt.Appendf(nil, "%s %08x\n", body, crc32.Checksum([]byte(body), castagnoli))

	data, _ := sealedDir(t, 9)
	lost := filepath.Join(data, "wal", lostName)
	for name, content := range map[string][]byte{
		good.fileName(): good.encode(), noteOf(3, 4).fileName(): flipped, noteOf(5, 6).fileName(): later,
		noteOf(1, 1).fileName(): good.encode(), // this name belongs to another note
	} {
		if err := os.WriteFile(filepath.Join(lost, name), content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	l := openLog(t, data, Options{})
	notes, err := l.Losses()
	if err != nil || len(notes) != 1 || notes[0].fileName() != good.fileName() {
		t.Errorf("notes %v, %v", notes, err)
	}
	checkQuarantined(t, l, flipped)
	checkQuarantined(t, l, good.encode())
	if b, err := os.ReadFile(filepath.Join(lost, noteOf(5, 6).fileName())); err != nil || string(b) != string(later) {
		t.Errorf("the note of a later version: %s, %v", b, err)
	}
}

// TestANoteOnAFullDiskIsDurable writes a note into the reserve, and crashes right
// after.
func TestANoteOnAFullDiskIsDurable(t *testing.T) {
	const dir = "/lost"
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 0))
		d := simdisk.New(simulatedRoom, r.IntN)
		disk := vfs.Disk{FS: d}
		if err := disk.MkdirDurably(dir); err != nil {
			t.Fatal(err)
		}
		ensureReserve(disk, dir+"/"+reserveName)
		d.Resize(d.Used())
		n := noteOf(1, 2)
		if err := writeNote(disk, dir, n); err != nil {
			t.Fatal(err)
		}
		b, err := vfs.Disk{FS: d.Crash()}.ReadFile(dir + "/" + n.fileName())
		if err == nil {
			_, err = decodeLossNote(b)
		}
		if err != nil {
			t.Fatalf("seed %d: the note after a crash: %v, %q", seed, err, b)
		}
	}
}

// TestANoteThatBecomesTheReserveIsIntactAfterACrash crashes while a note
// whose records are all in another note becomes the reserve.
func TestANoteThatBecomesTheReserveIsIntactAfterACrash(t *testing.T) {
	const dir = "/lost"
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 0))
		d := simdisk.New(simulatedRoom, r.IntN)
		disk, n := vfs.Disk{FS: d}, noteOf(1, 2)
		if err := disk.MkdirDurably(dir); err != nil {
			t.Fatal(err)
		}
		if err := disk.WriteFileDurably(dir+"/"+n.fileName(), n.encode()); err != nil {
			t.Fatal(err)
		}
		var crashes []*simdisk.Disk
		d.SetChanged(func(_ simdisk.Call, d simdisk.Locked) { crashes = append(crashes, d.Crash()) })
		if err := deleteReplacedNote(disk, dir, n); err != nil {
			t.Fatal(err)
		}
		for _, after := range crashes {
			b, err := vfs.Disk{FS: after}.ReadFile(dir + "/" + n.fileName())
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if _, err := decodeLossNote(b); err != nil {
				t.Fatalf("seed %d: the note after a crash: %v, %q", seed, err, b)
			}
		}
	}
}

func TestAdjacentLossesShareOneNote(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{})
	for seq := uint64(1); seq < 10; seq += 2 {
		if err := l.losses.note(l.newLossNote(SeqRange{First: seq, Last: seq + 1}, LossEvicted)); err != nil {
			t.Fatal(err)
		}
	}
	notes, err := l.Losses()
	if err != nil || len(notes) != 1 || notes[0].FirstSeq != 1 || notes[0].LastSeq != 10 {
		t.Errorf("notes %v, %v", notes, err)
	}
}
