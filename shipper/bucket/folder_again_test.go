package bucket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestAFolderThatCouldNotBeOpenedIsOpenedOnce puts several objects at once after a failed
// open.
func TestAFolderThatCouldNotBeOpenedIsOpenedOnce(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(root, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newFolder(root, "0123456789abcdef")
	if err == nil {
		t.Fatal("opened a file as a folder")
	}
	_ = os.Remove(root)
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for i := range 4 {
		wg.Go(func() {
			for j := range 200 {
				o := NewObject("dt=2000/x"+strings.Repeat("a", i)+"-"+strings.Repeat("b", j), []byte("hello"))
				if err := s.Put(context.Background(), o); err != nil && !errors.Is(err, ErrExists) {
					mu.Lock()
					if failed++; failed < 4 {
						t.Log(err)
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if failed > 0 {
		t.Errorf("%d of 800 puts failed", failed)
	}
}

// TestDeletedDirectoriesOfAFolderAreMadeAgain deletes them while the daemon runs. The root is not
// made again, since its disk may not be mounted.
func TestDeletedDirectoriesOfAFolderAreMadeAgain(t *testing.T) {
	root := filepath.Join(t.TempDir(), "archive")
	s, err := newFolder(root, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	for i, deleted := range []string{"", "_collectord/tmp", "_collectord", "dt=2026-11-23"} {
		if deleted != "" {
			if err := os.RemoveAll(filepath.Join(root, deleted)); err != nil {
				t.Fatal(err)
			}
		}
		for _, latest := range []bool{false, true} {
			o := NewObject(fmt.Sprintf("dt=2026-11-23/hour=08/%d-%v.ndjson.zst", i, latest), []byte("x"))
			o.Latest = latest
			if err := s.Put(t.Context(), o); err != nil {
				t.Errorf("without directory %q: %v", deleted, err)
			}
		}
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	var trouble *Error
	if err := s.Put(t.Context(), NewObject("a", []byte("x"))); !errors.As(err, &trouble) || !strings.Contains(trouble.Hint, root+" must be a directory") {
		t.Errorf("without the folder: %v", err)
	}
	if _, err := os.Lstat(root); err == nil {
		t.Error("the root was made again")
	}
}

// otherFileSystem returns a directory that is not on the file system of dir.
func otherFileSystem(t *testing.T, dir string) string {
	t.Helper()
	device, err := deviceOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"/dev/shm", "/tmp", "/var/tmp", "."} {
		if other, err := deviceOf(parent); err != nil || other == device {
			continue
		}
		if made, err := os.MkdirTemp(parent, "folder-*"); err == nil {
			t.Cleanup(func() { _ = os.RemoveAll(made) })
			return made
		}
	}
	t.Skip("needs two file systems")
	return ""
}

// TestAFolderWhoseFileSystemIsUnmountedTakesNothing: the objects would be hidden once it is mounted
// again. A link that leads to another file system stands for the mount.
func TestAFolderWhoseFileSystemIsUnmountedTakesNothing(t *testing.T) {
	mounted, below := t.TempDir(), otherFileSystem(t, t.TempDir())
	root := filepath.Join(t.TempDir(), "archive")
	mount := func(dir string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(root), os.Symlink(dir, root)); err != nil {
			t.Fatal(err)
		}
	}
	mount(mounted)
	s, err := newFolder(root, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string) error {
		return s.Put(t.Context(), NewObject("dt=2026-11-23/hour=08/"+key, []byte("hello")))
	}
	if err := put("a"); err != nil {
		t.Fatal(err)
	}
	mount(below)
	var failure *Error
	if err := put("b"); !errors.As(err, &failure) || failure.Kind != "unmounted" || !failure.Permanent || !strings.Contains(failure.Hint, "mount the disk of "+root) {
		t.Errorf("put returned %v", err)
	}
	if left, err := os.ReadDir(below); err != nil || len(left) > 0 {
		t.Errorf("the put left %v, %v", left, err)
	}
	mount(mounted)
	if err := put("b"); err != nil {
		t.Error(err)
	}
	if err := os.CopyFS(below, os.DirFS(mounted)); err != nil { // a larger disk with a copy
		t.Fatal(err)
	}
	mount(below)
	if err := put("c"); err != nil {
		t.Error(err)
	}
}
