package segment

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"collectord/wal/vfs"
)

// Run with -race.
func TestZerosNeverOverwriteRecords(t *testing.T) {
	disk, dir := vfs.OSDisk(), filepath.Join(t.TempDir(), "segment")
	w, err := Create(disk, dir, goldenHeader, Prealloc{Zeros: 4 << 10}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const frames = 400
	var filling sync.WaitGroup
	for seq := range uint64(frames) {
		if seq%20 == 0 {
			filling.Wait()
			size := w.Bytes() + 64<<10
			filling.Go(func() {
				if err := w.Fill(size); err != nil {
					t.Error(err)
				}
			})
		}
		r := Record{ReceivedAt: 1, Usage: bytes.Repeat([]byte("x"), 3000)}
		buf := AppendRecord(make([]byte, FrameStart), &r)
		PutFrame(buf, goldenHeader.LogID, goldenHeader.Run, 1+seq, 1)
		if err := w.Append(buf); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Trim(), w.Sync()); err != nil {
		t.Fatal(err)
	}
	filling.Wait() // a Fill that began before Trim adds nothing after it
	if info, err := disk.Stat(filepath.Join(dir, FileName)); err != nil || info.Size() != w.Bytes() {
		t.Errorf("%d bytes after Trim, %d were written: %v", info.Size(), w.Bytes(), err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for r, err := range Records(disk, filepath.Join(dir, FileName), 1, frames, func() {}) {
		if n++; err != nil || r.Seq != n || len(r.Usage) != 3000 {
			t.Fatalf("record %d: %v", n, err)
		}
	}
	if n != frames {
		t.Errorf("%d records, want %d", n, frames)
	}
}

// failingSync is a file that can't be synced.
type failingSync struct{ vfs.File }

func (failingSync) Sync() error { return &fs.PathError{Op: "fsync", Path: "file", Err: syscall.EIO} }

// An older kernel reports a disk error only to the first caller that syncs.
func TestAnErrorOfAZerosSyncIsReturnedByTheNextSync(t *testing.T) {
	disk, dir := vfs.OSDisk(), filepath.Join(t.TempDir(), "segment")
	w, err := Create(disk, dir, goldenHeader, Prealloc{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abandon()
	w.zeros.file = failingSync{w.zeros.file}
	if err := w.Fill(8 << 10); !errors.Is(err, syscall.EIO) {
		t.Errorf("Fill returns %v", err)
	}
	if err := w.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the next sync returns %v", err)
	}
}

// gatedFile blocks writes until gate is closed.
type gatedFile struct {
	vfs.File
	gate chan struct{}
}

func (f gatedFile) WriteAt(p []byte, off int64) (int, error) {
	<-f.gate
	return f.File.WriteAt(p, off)
}

func TestRecordsAndTrimWaitForZerosInTheirPlace(t *testing.T) {
	for name, step := range map[string]func(w *Writer) error{
		"a record":                    func(w *Writer) error { return w.Append(make([]byte, 1000)) },
		"the end of the zeros":        (*Writer).Trim,
		"a record ahead of the zeros": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk, dir := vfs.OSDisk(), filepath.Join(t.TempDir(), "segment")
				w, err := Create(disk, dir, goldenHeader, Prealloc{Zeros: 4 << 10}, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Abandon()
				if step != nil { // otherwise the record fits before the zeros
					if err := w.Append(make([]byte, 4<<10)); err != nil {
						t.Fatal(err)
					}
				}
				gate := make(chan struct{})
				w.zeros.file = gatedFile{w.zeros.file, gate}
				filled, done := make(chan error, 1), make(chan error, 1)
				go func() { filled <- w.Fill(16 << 10) }()
				synctest.Wait()
				if step == nil {
					if err := w.Append(make([]byte, 1000)); err != nil { // this must not wait
						t.Error(err)
					}
					close(gate)
					<-filled
					return
				}
				go func() { done <- step(w) }()
				synctest.Wait()
				select {
				case <-done:
					t.Error("did not wait")
				default:
				}
				close(gate)
				if err := errors.Join(<-filled, <-done); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
