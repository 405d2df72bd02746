package simdisk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"collectord/wal/vfs"
)

// TestItBehavesLikeTheOperatingSystem makes the same random calls on both.
func TestItBehavesLikeTheOperatingSystem(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		real, dir := vfs.OS{}, t.TempDir()
		simulated := New(1<<20, r.IntN)
		names := []string{"a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a"}
		for step := range 300 {
			one, other := names[r.IntN(len(names))], names[r.IntN(len(names))]
			size, at := r.IntN(2000), int64(r.IntN(3000))
			do := func(fs vfs.FS, root string) string {
				one, other := filepath.Join(root, one), filepath.Join(root, other)
				return callOnce(fs, step%9, one, other, size, at)
			}
			want, got := do(real, dir), do(simulated, "/")
			if want != got {
				t.Fatalf("seed %d, step %d (%d %s %s): the operating system: %s; simulated: %s", seed, step, step%9, one, other, want, got)
			}
		}
	}
}

// callOnce makes one call and describes its result.
func callOnce(fs vfs.FS, kind int, one, other string, size int, at int64) string {
	outcome := func(err error) string {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return errno.Error()
		}
		return fmt.Sprint(err == nil)
	}
	change := func(do func(f vfs.File) error) string {
		f, err := fs.OpenWritable(one)
		if err != nil {
			return "can't open"
		}
		return outcome(errors.Join(do(f), f.Sync(), f.Datasync(), f.Close()))
	}
	switch kind {
	case 0:
		f, err := fs.Create(one)
		if err == nil {
			err = f.Close()
		}
		return outcome(err)
	case 1:
		return outcome(fs.Mkdir(one))
	case 2:
		if strings.HasPrefix(other+"/", one+"/") || strings.HasPrefix(one, other+"/") {
			return "" // the log never renames a directory into itself or its content
		}
		return outcome(fs.Rename(one, other))
	case 3:
		if size%2 == 0 {
			return outcome(fs.RemoveDir(one))
		}
		return outcome(fs.RemoveIn(filepath.Dir(one), filepath.Base(one)))
	case 4:
		all, err := fs.List(one)
		text := outcome(err)
		for _, e := range all {
			text += " " + e.Name() + fmt.Sprint(e.IsDir())
		}
		return text
	case 5:
		info, err := fs.Stat(one)
		if err != nil || info.IsDir() {
			return outcome(err)
		}
		return fmt.Sprint(info.Size(), info.Mode(), vfs.LinkCount(info))
	case 8:
		if info, err := fs.Stat(one); err == nil && info.IsDir() {
			return ""
		}
		return outcome(fs.Link(one, other))
	case 6:
		return change(func(f vfs.File) error {
			if size%7 == 0 {
				return f.Truncate(at)
			}
			_, err := f.WriteAt(bytes.Repeat([]byte{byte(size)}, size), at)
			return err
		})
	}
	f, err := fs.Open(one)
	if err != nil {
		return "can't open"
	}
	b := make([]byte, 5000)
	n, err := f.ReadAt(b, at)
	return fmt.Sprint(n, errors.Is(err, io.EOF), string(b[:n]), f.Close())
}

// TestSyncedDataSurvivesACrash also asserts that a crash leaves no data that was not
// written.
func TestSyncedDataSurvivesACrash(t *testing.T) {
	lost := map[string]int{}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := New(1<<20, r.IntN)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(d.Mkdir("/d"))
		must(d.SyncDir("/"))
		f, err := d.Create("/d/file")
		must(err)
		write := func(b byte, at int64) {
			_, err := f.WriteAt(bytes.Repeat([]byte{b}, 4*sectorSize), at)
			must(err)
		}
		write('1', 0)
		must(f.Sync())
		must(d.SyncDir("/d"))
		write('2', 2*sectorSize)
		must(d.Rename("/d/file", "/d/renamed"))
		after := d.Crash()
		names, err := after.List("/d")
		must(err)
		if len(names) != 1 {
			t.Fatalf("seed %d: %d names, want one", seed, len(names))
		}
		name := names[0].Name()
		lost[name]++
		g, err := after.Open("/d/" + name)
		must(err)
		b := make([]byte, 7*sectorSize)
		n, _ := g.ReadAt(b, 0)
		lost[fmt.Sprint(n)]++
		for at := range n / sectorSize {
			sector := b[at*sectorSize : (at+1)*sectorSize]
			allowed := map[int]string{0: "1", 1: "1", 2: "12", 3: "12", 4: "2\x00", 5: "2\x00"}[at]
			if !bytes.ContainsAny([]byte(allowed), string(sector[:1])) || bytes.Count(sector, sector[:1]) != sectorSize {
				t.Fatalf("seed %d: sector %d contains %q", seed, at, sector[:1])
			}
		}
	}
	for _, seen := range []string{"file", "renamed", fmt.Sprint(4 * sectorSize), fmt.Sprint(6 * sectorSize)} {
		if lost[seen] == 0 {
			t.Errorf("no crash left %q: %v", seen, lost)
		}
	}
}

// TestAFailedSyncLosesDataThoughTheNextSucceeds: the data may be lost although a second
// sync returns nil.
func TestAFailedSyncLosesDataThoughTheNextSucceeds(t *testing.T) {
	lost := 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := New(1<<20, r.IntN)
		failed := false
		d.SetIntercept(func(c Call) Fault {
			if c.Op == Datasync && !failed {
				failed = true
				return Fault{Err: syscall.EIO}
			}
			return Fault{}
		})
		f, err := d.Create("/file")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("usage"), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Datasync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("first sync: %v", err)
		}
		if err := errors.Join(f.Datasync(), d.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		info, err := d.Crash().Stat("/file")
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() == 0 {
			lost++
		}
	}
	if lost == 0 || lost == 100 {
		t.Errorf("lost in %d of 100 crashes, want some", lost)
	}
}

// TestAFullDiskWritesInPart: write(2) does so.
func TestAFullDiskWritesInPart(t *testing.T) {
	d := New(10, rand.New(rand.NewPCG(1, 1)).IntN)
	f, err := d.Create("/file")
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.WriteAt(make([]byte, 15), 0)
	if n != 10 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if err := d.Remove("/file"); err != nil {
		t.Fatal(err)
	}
	if free, err := d.Free("/"); free != 10 || err != nil {
		t.Errorf("free after removal: %d, %v", free, err)
	}
}
