package wal

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestIdentity(t *testing.T) {
	machine := filepath.Join(t.TempDir(), "machine-id")
	setMachine := func(id string) {
		if err := os.WriteFile(machine, []byte(id+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	logID := func() uint64 {
		l := openLog(t, dir, Options{MachineID: machine})
		mustAppend(t, l, Record{Usage: usage(1)})
		id, _ := l.Identity()
		mustClose(t, l)
		return id
	}
	setMachine("0123")
	first := logID()
	if again := logID(); again != first {
		t.Errorf("log id changed from %x to %x", first, again)
	}
	path := filepath.Join(dir, "wal", identityName)
	if b, _ := os.ReadFile(path); strings.Contains(string(b), "0123") {
		t.Errorf("LOG contains the machine id: %s", b)
	}
	for _, content := range []string{"", "garbage"} {
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		if again := logID(); again != first {
			t.Errorf("log id %x was not rebuilt from a segment, got %x", first, again)
		}
	}
	setMachine("4567")
	if clone := logID(); clone == first {
		t.Error("a cloned image kept its log id")
	}
}

// The log id is in LOG and in each segment. If LOG can't be written, the last segment
// keeps it, even after its records are shipped.
func TestTheLogIDSurvivesWithoutItsFile(t *testing.T) {
	dir := t.TempDir()
	var broken atomic.Bool
	o := Options{ProbeMin: time.Hour, ProbeMax: time.Hour}.WithDisk(func(op, path string) error {
		name := filepath.Base(path)
		if op == "rename" && (name == identityName+".tmp" || name == nextName && broken.Load()) {
			return syscall.ENOSPC
		}
		return nil
	})
	l := openLog(t, dir, o)
	mustAppend(t, l, Record{Usage: usage(0)})
	broken.Store(true)
	_ = l.Seal(t.Context()) // no segment is prepared to continue with
	until(t, "the segment is sealed", func() bool { return l.Stats().SealedSegments == 1 })
	segments, _ := l.Sealed()
	if err := segments[0].Remove(); err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	if err := os.CopyFS(filepath.Join(copied, "wal"), os.DirFS(l.dir)); err != nil {
		t.Fatal(err)
	}
	after := openLog(t, copied, Options{})
	if after.logID != l.logID || (after.queue.nextSeq-1) != 1 {
		t.Errorf("log %x continues as %x, above seq %d", l.logID, after.logID, (after.queue.nextSeq - 1))
	}
}
