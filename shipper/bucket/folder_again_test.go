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
