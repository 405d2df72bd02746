package wal

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

func TestMarkDirGoneReplacesAnEarlierDirectory(t *testing.T) {
	for name, left := range map[string][]string{"emptied": nil, "half removed": {segment.FileName}} {
		t.Run(name, func(t *testing.T) {
			l := openLog(t, t.TempDir(), Options{})
			dir := filepath.Join(l.dir, segment.ActiveName(4))
			for _, d := range []string{dir, dir + goneSuffix} {
				if err := os.Mkdir(d, 0o750); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range left {
				if err := os.WriteFile(filepath.Join(dir+goneSuffix, f), nil, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "mark"), nil, 0o640); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second call finds it done
				if err := l.markDirGone(dir); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir+goneSuffix, "mark")); err != nil {
				t.Error(err)
			}
			if err := l.markDirGone(dir + "0"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("markDirGone of a missing directory: %v", err)
			}
		})
	}
}

func TestARemovalWhileTheDiskFailsKeepsTheNextSeq(t *testing.T) {
	var fails atomic.Bool
	l := openLog(t, t.TempDir(), Options{ProbeMin: time.Hour}.WithDatasync(func(f vfs.File) error {
		if fails.Load() {
			return syscall.EIO
		}
		return f.Datasync()
	}))
	mustAppend(t, l, Record{Usage: usage(1)}, Record{Usage: usage(2)})
	fails.Store(true)
	if err := l.Append(context.Background(), Record{Usage: usage(3)}); !errors.Is(err, ErrCommitFailed) {
		t.Fatal(err)
	}
	until(t, "the segment is sealed", func() bool { s, _ := l.Sealed(); return len(s) == 1 })
	segments, _ := l.Sealed()
	if err := segments[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if g := checkLedger(t, l); g.Shipped != 2 || g.Pending != 0 {
		t.Errorf("ledger %+v", g)
	}
	if files, err := filepath.Glob(filepath.Join(l.dir, "*"+goneSuffix, segment.FileName)); err != nil || len(files) > 0 {
		t.Errorf("files of removed segments remain: %v (%v)", files, err)
	}
	dir := t.TempDir() // as kill -9 leaves it
	if err := os.CopyFS(filepath.Join(dir, "wal"), os.DirFS(l.dir)); err != nil {
		t.Fatal(err)
	}
	again := openLog(t, dir, Options{})
	mustAppend(t, again, Record{Usage: usage(3)})
	mustSeal(t, again)
	segments, _ = again.Sealed()
	if len(segments) != 1 || segments[0].FirstSeq() != 3 {
		t.Errorf("segments %v, want one that begins with 3", segments)
	}
	mustClose(t, again)
}
