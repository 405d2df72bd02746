package bucket

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"

	"golang.org/x/sys/unix"
)

// TestAnExistingFileIsMadeDurable: a rename from before a crash may not be durable yet.
func TestAnExistingFileIsMadeDurable(t *testing.T) {
	dir := t.TempDir()
	s, err := newFolder(dir, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	o := testObject("dt=2026-11-23/hour=08/a.ndjson.zst", "x")
	if err := s.Put(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	again, err := newFolder(dir, testOwner)
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
	// A consumer deletes objects meanwhile.
	if err := os.RemoveAll(filepath.Join(dir, "dt=2026-11-23")); err != nil {
		t.Fatal(err)
	}
	if err := again.Put(context.Background(), o); err != nil {
		t.Error(err)
	}
}

func TestFolderRejectsKeysOutsideOfIt(t *testing.T) {
	s, err := newFolder(t.TempDir(), testOwner)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"../out", "/etc/passwd", "a/../../out", ""} {
		if err := s.Put(context.Background(), testObject(key, "x")); err == nil {
			t.Errorf("key %q was accepted", key)
		}
	}
}

// testOwner is the log id of the collector in these tests.
const testOwner = "00000000000000aa"

// TestOnlyOwnFilesAreRemovedFromAFolder: several collectors may share a folder and write
// temporary files.
func TestOnlyOwnFilesAreRemovedFromAFolder(t *testing.T) {
	root := t.TempDir()
	s, err := newFolder(root, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	const own = "put-" + testOwner + "-"
	for _, name := range []string{own + "123", own + "456", "put-00000000000000bb-1", "put-1", "notes.txt", own + "7/file"} {
		s3test.WriteFile(t, filepath.Join(s.tempDir(), name))
	}
	target := filepath.Join(t.TempDir(), "target")
	s3test.WriteFile(t, target)
	if err := os.Symlink(target, filepath.Join(s.tempDir(), own+"8")); err != nil {
		t.Fatal(err)
	}
	busy, err := os.Open(filepath.Join(s.tempDir(), own+"456"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := unix.Flock(int(busy.Fd()), unix.LOCK_SH); err != nil { // like a process that writes the file
		t.Fatal(err)
	}
	for _, owner := range []string{"", "00000000000000cc", testOwner} {
		if s, err = newFolder(root, owner); err != nil {
			t.Fatal(err)
		}
		want := " /notes.txt /" + own + "123 /" + own + "456 /" + own + "7 /" + own + "7/file /" + own + "8 /put-00000000000000bb-1 /put-1"
		if owner == testOwner {
			want = strings.Replace(want, " /"+own+"123", "", 1)
		}
		if got := strings.Join(s3test.Tree(t, s.tempDir()), " "); got != want {
			t.Errorf("opened by %q, the files are%s, want%s", owner, got, want)
		}
	}
	if _, err := os.Stat(target); err != nil {
		t.Error(err)
	}
}

// TestAFailedReadInAFolderNamesTheObject: readers can then continue with the next object.
func TestAFailedReadInAFolderNamesTheObject(t *testing.T) {
	s, err := newFolder(t.TempDir(), testOwner)
	if err != nil {
		t.Fatal(err)
	}
	o := testObject("dt=2026-11-23/hour=08/a.ndjson.zst", "x")
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	body, _, err := s.Open(t.Context(), o.Key)
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	var failed *Error
	if _, err := body.Read(make([]byte, 1)); !errors.As(err, &failed) || failed.Op != "open" || failed.Key != o.Key {
		t.Errorf("Read returned %v", err)
	}
}
