package bucket

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestAFolderThatCouldNotBeOpenedIsOpenedOnce puts several objects at once after that.
func TestAFolderThatCouldNotBeOpenedIsOpenedOnce(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(root, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newFolder(root, "0123456789abcdef")
	if err == nil {
		t.Fatal("opened")
	}
	_ = os.Remove(root)
	var wg sync.WaitGroup
	var mu sync.Mutex
	bad := 0
	for i := range 4 {
		wg.Go(func() {
			for j := range 200 {
				o := NewObject("dt=2000/x"+strings.Repeat("a", i)+"-"+strings.Repeat("b", j), []byte("hello"))
				if err := s.Put(context.Background(), o); err != nil && !errors.Is(err, ErrExists) {
					mu.Lock()
					if bad++; bad < 4 {
						t.Log(err)
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if bad > 0 {
		t.Errorf("%d of 800 puts failed", bad)
	}
}
