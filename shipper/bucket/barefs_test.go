//go:build torture

package bucket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket/s3test"
)

// mountBare mounts a real file system that supports neither hard links nor RENAME_NOREPLACE.
func mountBare(t *testing.T) (mountpoint string) {
	t.Helper()
	program := s3test.Tool(t, "TEST_BAREFS", "barefs")
	below, mountpoint := t.TempDir(), t.TempDir()
	cmd := exec.Command(program, below, mountpoint)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil && !t.Skipped() {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "mounted\n" {
		if os.Getenv("ALLOW_MISSING") == "1" {
			t.Skip("barefs can't mount, and ALLOW_MISSING=1 is set")
		}
		t.Fatalf("barefs printed %q, %v (it needs root and /dev/fuse)", line, err)
	}
	return mountpoint
}

func TestAFileSystemThatCanNeitherLinkNorRenameWithoutReplacing(t *testing.T) {
	root := filepath.Join(mountBare(t), "archive")
	s, err := newFolder(root, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(from, to string) error{"renameat2": renameNew, "link": os.Link} {
		s3test.WriteFile(t, filepath.Join(root, "from"))
		if err := call(filepath.Join(root, "from"), filepath.Join(root, "to")); !unsupported(err) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(root, "from")); err != nil {
		t.Fatal(err)
	}
	testStoreBasics(t, s, false)
	testManyObjects(t, s, false, largeObject)
	testRacingPuts(t, s)
}

const (
	bareChild   = "TEST_BARE_ROOT" // set in the child process that is killed
	bareObjects = 300
)

func bareObject(i int) *Object {
	k := Key{Node: "n", LogID: 0xaa, Run: 2, FirstSeq: uint64(i + 1), LastSeq: uint64(i + 1)}
	return testObject(k.String(), fmt.Sprint("content of ", i))
}

// putAll puts all objects.
func putAll(root string) error {
	s, err := newFolder(root, testOwner)
	if err != nil {
		return err
	}
	for i := range bareObjects {
		if err := s.Put(context.Background(), bareObject(i)); err != nil && !errors.Is(err, ErrExists) {
			return err
		}
	}
	return nil
}

func TestKilledPutsWhereNamesCanOnlyBeClaimedLeaveWholeObjectsAndClaims(t *testing.T) {
	if root := os.Getenv(bareChild); root != "" {
		if err := putAll(root); err != nil {
			t.Fatal(err)
		}
		return
	}
	root := filepath.Join(mountBare(t), "archive")
	if err := os.Mkdir(root, 0o750); err != nil { // the first child may be killed before it makes it
		t.Fatal(err)
	}
	claims := map[string]bool{}
	const kills = 60
	for n := range kills {
		child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		child.Env = append(os.Environ(), bareChild+"="+root)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(40+n*7%60) * time.Millisecond)
		_ = child.Process.Kill()
		_ = child.Wait()
		reader := readFolder(root)
		for _, key := range listKeys(t, reader, DataPrefix) {
			if k, ok := ParseKey(key); !ok || readContent(t, reader, key) != fmt.Sprint("content of ", k.FirstSeq-1) {
				t.Fatalf("%s contains %q", key, readContent(t, reader, key))
			}
		}
		_ = filepath.WalkDir(filepath.Join(root, strings.TrimSuffix(Partition(0), "/")), func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				if info, err := e.Info(); err == nil && info.Size() == 0 {
					claims[path] = true
				}
			}
			return nil
		})
	}
	if err := putAll(root); err != nil {
		t.Fatal(err)
	}
	reader := readFolder(root)
	if keys := listKeys(t, reader, DataPrefix); len(keys) != bareObjects {
		t.Errorf("got %d of %d objects", len(keys), bareObjects)
	}
	for i := range bareObjects {
		if got := readContent(t, reader, bareObject(i).Key); got != fmt.Sprint("content of ", i) {
			t.Errorf("object %d contains %q", i, got)
		}
	}
	if left, err := os.ReadDir(reader.tempDir()); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
	t.Logf("%d kills left %d claims; all were completed", kills, len(claims))
}
