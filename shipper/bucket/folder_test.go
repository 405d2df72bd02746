package bucket

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What was renamed before a crash may not be durable: it is made so before the
// segment is removed.
func TestAFileThatIsThereAlreadyIsMadeDurable(t *testing.T) {
	dir := t.TempDir()
	s, err := newFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := unreal("dt=2026-11-23/hour=08/a.ndjson.zst", "x")
	if err := s.Put(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	again, err := newFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Put(context.Background(), o); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "dt=2026-11-23"), filepath.Join(dir, "dt=2026-11-23", "hour=08")} {
		if !again.durable[d] {
			t.Errorf("%s was not synced", d)
		}
	}
	// Somebody prunes the archive meanwhile.
	if err := os.RemoveAll(filepath.Join(dir, "dt=2026-11-23")); err != nil {
		t.Fatal(err)
	}
	if err := again.Put(context.Background(), o); err != nil {
		t.Error(err)
	}
}

func TestFileStoreKeepsKeysInside(t *testing.T) {
	s, err := newFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"../out", "/etc/passwd", "a/../../out", ""} {
		if err := s.Put(context.Background(), unreal(key, "x")); err == nil {
			t.Errorf("key %q was taken", key)
		}
	}
}

// tree lists the files, directories and links below dir.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, strings.TrimPrefix(path, dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func put(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A folder may be shared, and files in the making there may be others'.
func TestOnlyOwnFilesAreRemovedFromAFolder(t *testing.T) {
	root := t.TempDir()
	s, err := newFolder(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"put-123", "put-456", "notes.txt", "put-7/file"} {
		put(t, filepath.Join(s.temp(), name))
	}
	target := filepath.Join(t.TempDir(), "target")
	put(t, target)
	if err := os.Symlink(target, filepath.Join(s.temp(), "put-8")); err != nil {
		t.Fatal(err)
	}
	busy, err := os.Open(filepath.Join(s.temp(), "put-456"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := unix.Flock(int(busy.Fd()), unix.LOCK_SH); err != nil { // as who writes it does
		t.Fatal(err)
	}
	if s, err = newFolder(root); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(tree(t, s.temp()), " "), " /notes.txt /put-456 /put-7 /put-7/file /put-8"; got != want {
		t.Errorf("there is%s, want%s", got, want)
	}
	if _, err := os.Stat(target); err != nil {
		t.Error(err)
	}
}
