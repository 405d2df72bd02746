package wal_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"collectord/wal"
)

// TestManyLossNotesTakeLittleMemory starts a log and lists the loss notes in a process
// whose memory is measured.
func TestManyLossNotesTakeLittleMemory(t *testing.T) {
	const notes, largeFile, maxBytes = 4_000, 1 << 30, 32 << 20
	if data := os.Getenv("COLLECTORD_TEST_NOTES"); data != "" {
		l, err := wal.Open(data, wal.Options{SegmentSize: 4 << 10, MachineID: "/nonexistent"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		total := 0
		for {
			some, err := l.Losses()
			if err != nil {
				t.Fatal(err)
			}
			if len(some) == 0 {
				break
			}
			total += len(some)
			if waiting := l.Stats().LossNotes; waiting != notes-total+len(some) {
				t.Fatalf("%d notes wait, %d are stored", waiting, total-len(some))
			}
			for _, n := range some {
				if err := l.LossStored(n); err != nil {
					t.Fatal(err)
				}
			}
		}
		if total != notes {
			t.Errorf("%d notes were listed, of %d", total, notes)
		}
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		if memory.Sys > maxBytes {
			t.Errorf("the process took %d bytes from the system, want at most %d", memory.Sys, maxBytes)
		}
		return
	}
	t.Parallel()
	base := scratchDir(t)
	data := filepath.Join(base, "data")
	makeOpenLog(t, data)
	lost := filepath.Join(data, "wal", "lost")
	hours := strings.TrimSuffix(strings.Repeat("490000,", 300), ",")
	var err error
	for i := range notes {
		seq := 10 + 2*i
		body := fmt.Sprintf("collectord-loss 1 %016x %016x %d %d damaged 1700000000000000 %s %q", 1, 2, seq, seq, hours, "edge-1")
		note := fmt.Sprintf("%s %08x\n", body, crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)))
		err = errors.Join(err, os.WriteFile(filepath.Join(lost, fmt.Sprintf("%020d-%020d-%016x", seq, seq, 2)), []byte(note), 0o600))
	}
	err = errors.Join(err, os.WriteFile(filepath.Join(lost, "x"), []byte("x"), 0o600), os.Truncate(filepath.Join(lost, "x"), largeFile), chownToNobodyIfRoot(base))
	if err != nil {
		t.Fatal(err)
	}
	runAsNobody(t, base, "COLLECTORD_TEST_NOTES="+data)
}

func chownToNobodyIfRoot(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return chownToNobody(dir)
}

// TestAnOverlayThatRenamesNoDirectory starts a log in a lower layer of an overlay. The
// file system does not rename the directories of that layer (EXDEV).
func TestAnOverlayThatRenamesNoDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount an overlay")
	}
	t.Parallel()
	base := scratchDir(t)
	dir := func(name string) string { return filepath.Join(base, name) }
	for _, d := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(dir(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	makeOpenLog(t, filepath.Join(dir("lower"), "data"))
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off", dir("lower"), dir("upper"), dir("work"))
	if err := unix.Mount("overlay", dir("merged"), "overlay", 0, options); err != nil {
		t.Skip("no overlay can be mounted: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir("merged"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	data := filepath.Join(dir("merged"), "data")
	sealed := filepath.Join(data, "wal", sealedName(1, 2))
	if err := os.Rename(sealed, sealed+"x"); !errors.Is(err, unix.EXDEV) {
		t.Skip("the overlay renames directories: ", err)
	}
	(&trialStart{name: "overlay"}).start(t, data)
}
