package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// bareCalls are the calls of a file system that supports neither hard links nor RENAME_NOREPLACE.
func bareCalls() nameCalls {
	return nameCalls{
		renameNew: func(from, to string) error {
			return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: unix.EINVAL}
		},
		link:   func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: unix.EPERM} },
		rename: os.Rename,
	}
}

// newBareFolder opens a folder on such a file system.
func newBareFolder(t *testing.T, root, owner string) *folder {
	t.Helper()
	s := readFolder(root)
	s.owner, s.calls = owner, bareCalls()
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	return s
}

// testOwnerKey returns a key of the collector testOwner.
func testOwnerKey() string {
	return Key{Node: "n", LogID: 0xaa, Run: 2, FirstSeq: 3, LastSeq: 4}.String()
}

func readContent(t *testing.T, s Store, key string) string {
	t.Helper()
	body, _, err := s.Open(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func listKeys(t *testing.T, s Store, prefix string) (keys []string) {
	t.Helper()
	for key, err := range s.List(context.Background(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// leaveClaim puts an object and crashes after the claim.
func leaveClaim(t *testing.T, root string, o *Object) {
	t.Helper()
	s := newBareFolder(t, root, testOwner)
	crash := errors.New("crashed")
	s.calls.rename = func(string, string) error { return crash }
	if err := s.Put(context.Background(), o); !errors.Is(err, crash) {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(root, o.Key)); err != nil || info.Size() != 0 {
		t.Fatalf("there is no claim: %v, %v", info, err)
	}
}

func TestAClaimFromBeforeACrashIsNoObjectAndIsCompletedByItsOwner(t *testing.T) {
	ctx := context.Background()
	for name, reopen := range map[string]func(t *testing.T, root, owner string) *folder{
		"bare file system": newBareFolder,
		"another file system": func(t *testing.T, root, owner string) *folder {
			s, err := newFolder(root, owner)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			o := testObject(testOwnerKey(), "mine")
			leaveClaim(t, root, o)
			s := reopen(t, root, testOwner)
			if _, err := s.Stat(ctx, o.Key); !errors.Is(err, ErrNotFound) {
				t.Errorf("Stat of a claim: %v", err)
			}
			if _, _, err := s.Open(ctx, o.Key); !errors.Is(err, ErrNotFound) {
				t.Errorf("Open of a claim: %v", err)
			}
			if keys := listKeys(t, s, DataPrefix); len(keys) > 0 {
				t.Errorf("a claim was listed: %v", keys)
			}
			checkClaimed := func(who string, s *folder) {
				t.Helper()
				var storeErr *Error
				if err := s.Put(ctx, testObject(o.Key, "theirs")); !errors.As(err, &storeErr) || storeErr.Kind != "claimed" || storeErr.Permanent || !storeErr.ThisObjectOnly {
					t.Errorf("a put by %s: %v", who, err)
				}
				if info, err := os.Stat(filepath.Join(root, o.Key)); err != nil || info.Size() != 0 {
					t.Errorf("%s replaced the claim: %v, %v", who, info, err)
				}
			}
			checkClaimed("another collector", reopen(t, root, "00000000000000bb"))
			checkClaimed("one without a log", reopen(t, root, ""))
			locked, err := os.Open(filepath.Join(root, o.Key))
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Flock(int(locked.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			checkClaimed("a copy of a collector that is about to complete it", s)
			locked.Close()
			if err := s.Put(ctx, o); err != nil {
				t.Fatal(err)
			}
			if got := readContent(t, s, o.Key); got != "mine" || len(listKeys(t, s, DataPrefix)) != 1 {
				t.Errorf("the completed object contains %q", got)
			}
			if err := s.Put(ctx, testObject(o.Key, "other")); !errors.Is(err, ErrExists) {
				t.Errorf("a put over the object: %v", err)
			}
		})
	}
}

// TestCopiesOfACollectorNeverReplaceEachOthersObjects races several copies, with and
// without a claim from before a crash.
func TestCopiesOfACollectorNeverReplaceEachOthersObjects(t *testing.T) {
	const copies, rounds = 8, 20
	for round := range rounds {
		root := t.TempDir()
		if round%2 == 0 {
			leaveClaim(t, root, testObject(testOwnerKey(), "left"))
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var won []string
		stores := make([]*folder, copies)
		for i := range stores {
			stores[i] = newBareFolder(t, root, testOwner)
		}
		for i, s := range stores {
			wg.Go(func() {
				text := fmt.Sprint("of copy ", i)
				for {
					err := s.Put(context.Background(), testObject(testOwnerKey(), text))
					var storeErr *Error
					if errors.As(err, &storeErr) && storeErr.Kind == "claimed" {
						continue
					}
					if err == nil {
						mu.Lock()
						won = append(won, text)
						mu.Unlock()
					} else if !errors.Is(err, ErrExists) {
						t.Error(err)
					}
					return
				}
			})
		}
		wg.Wait()
		if len(won) != 1 || readContent(t, stores[0], testOwnerKey()) != won[0] {
			t.Fatalf("successful puts: %v, and the object contains %q", won, readContent(t, stores[0], testOwnerKey()))
		}
	}
}

func TestAFolderWhereNoNameCanBeGivenIsRefusedAtStart(t *testing.T) {
	s := readFolder(t.TempDir())
	s.owner, s.calls = testOwner, bareCalls()
	s.calls.rename = func(from, to string) error {
		if _, err := os.Stat(to); err == nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.EEXIST}
		}
		return os.Rename(from, to)
	}
	if err := s.prepare(); err == nil || !strings.Contains(err.Error(), "a file here can't be named without replacing") {
		t.Errorf("prepare returned %v, want an error", err)
	}
}

// TestOnlyRegularFilesAreObjects gives the keys of objects to files that are not regular.
func TestOnlyRegularFilesAreObjects(t *testing.T) {
	root := t.TempDir()
	s, err := newFolder(root, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	o := testObject(testOwnerKey(), "x")
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(filepath.Join(root, o.Key))
	at := func(name string) string { return filepath.Join(dir, name+Suffix) }
	if err := errors.Join(
		unix.Mkfifo(at("pipe"), 0o600), os.Symlink("/dev/zero", at("zero")), os.Symlink(filepath.Join(root, o.Key), at("link")),
		os.Mkdir(at("directory"), 0o700), os.Symlink(dir, filepath.Join(root, "dt=2026-11-23")),
	); err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: at("socket")}); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{DataPrefix, Partition(0)} {
		if keys := listKeys(t, s, prefix); len(keys) != 1 || keys[0] != o.Key {
			t.Errorf("listed %v, want only the object", keys)
		}
	}
	if keys := listKeys(t, s, "dt=2026-11-23/"); len(keys) > 0 {
		t.Errorf("listed %v, want nothing", keys)
	}
	for _, name := range []string{"pipe", "zero", "link", "directory", "socket"} {
		key := Partition(0) + name + Suffix
		var storeErr *Error
		if _, err := s.Stat(t.Context(), key); !errors.As(err, &storeErr) || storeErr.Kind != "not_a_file" || !storeErr.ThisObjectOnly {
			t.Errorf("Stat of a %s: %v", name, err)
		}
		if _, _, err := s.Open(t.Context(), key); !errors.As(err, &storeErr) || storeErr.Kind != "not_a_file" {
			t.Errorf("Open of a %s: %v", name, err)
		}
		other := testObject(key, "x")
		if err := s.Put(t.Context(), other); !errors.Is(err, ErrExists) {
			t.Errorf("a put over a %s: %v", name, err)
		}
		if _, _, err := Compare(t.Context(), s, other, false); !errors.As(err, &storeErr) || storeErr.Kind != "not_a_file" {
			t.Errorf("Compare with a %s: %v", name, err)
		}
	}
	// The root may be a link.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	if keys := listKeys(t, readFolder(link), DataPrefix); len(keys) != 1 || readContent(t, readFolder(link), o.Key) != "x" {
		t.Errorf("through a link, listed %v", keys)
	}
}
