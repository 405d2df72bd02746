package wal_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"collectord/wal"
)

// TestAcknowledgedEntriesAreKeptAndNoLongerCounted acknowledges entries while a log is
// open.
func TestAcknowledgedEntriesAreKeptAndNoLongerCounted(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	makeOpenLog(t, data)
	in := func(name string) string { return filepath.Join(data, "wal", name) }
	err := errors.Join(os.RemoveAll(in("next")), os.WriteFile(in("next"), []byte("next"), 0o600), os.RemoveAll(in("LOG")), os.Mkdir(in("LOG"), 0o700),
		os.WriteFile(in("notes.txt"), []byte("notes"), 0o600), os.WriteFile(in("00000000000000000003-00000000000000000004/00000000000000000001"), []byte("torn"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	o := wal.Options{SegmentSize: 4 << 10, MachineID: "/nonexistent"}
	l, err := wal.Open(data, o)
	if err != nil {
		t.Fatal(err)
	}
	shipAll(t, l) // it salvages a segment, and the damaged bytes go to the quarantine
	wantPutAside := func(want int) {
		t.Helper()
		deadline := time.Now().Add(testLimit)
		for l.Stats().PutAside != want || len(l.PutAside()) != want {
			if time.Now().After(deadline) {
				t.Fatalf("%d entries are put aside, want %d: %v", l.Stats().PutAside, want, l.PutAside())
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	acknowledge := func(want int, names ...string) {
		t.Helper()
		if done, err := wal.Acknowledge(data, names...); err != nil || len(done) != want {
			t.Errorf("acknowledged %q, %v", done, err)
		}
	}
	wantPutAside(4)
	kept := filesBelow(t, data)
	i := slices.IndexFunc(l.PutAside(), func(a wal.Aside) bool { return filepath.Base(a.Path) != "notes.txt" })
	acknowledge(1, l.PutAside()[i].Path)
	wantPutAside(3)
	acknowledge(1, "notes.txt")
	wantPutAside(2)
	acknowledge(2)
	wantPutAside(0)
	acknowledge(0)
	for what, path := range kept {
		if filesBelow(t, data)[what] == "" {
			t.Errorf("%s is missing", path)
		}
	}
	for _, name := range []string{"../x", "x", "..", ".", "quarantine", "wal/quarantine/acknowledged"} {
		if done, err := wal.Acknowledge(data, name); err == nil {
			t.Errorf("acknowledged %q", done)
		}
	}
	if err := errors.Join(os.Rename(in("notes.txt"), in("kept")), os.WriteFile(in("notes.txt"), []byte("other"), 0o600), l.Close()); err != nil {
		t.Fatal(err)
	}
	if l, err = wal.Open(data, o); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wantPutAside(2) // both count: the acknowledged file has another name now, and another file has its path
}

// TestEntriesLeftInEachDirectoryAreListedWithoutADaemon also acknowledges them.
func TestEntriesLeftInEachDirectoryAreListedWithoutADaemon(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	makeOpenLog(t, data)
	want := []string{"spool.aside-1", "wal/lost/a directory", "wal/lost/x.aside-1", "wal/notes.txt"}
	err := errors.Join(os.WriteFile(filepath.Join(data, want[0]), nil, 0o600), os.Mkdir(filepath.Join(data, want[1]), 0o700),
		os.WriteFile(filepath.Join(data, want[2]), nil, 0o600), os.WriteFile(filepath.Join(data, want[3]), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	i, err := wal.Inspect(data)
	if err != nil {
		t.Fatal(err)
	}
	paths := func() (paths []string) {
		all, err := i.PutAside()
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			paths = append(paths, one.Path)
		}
		slices.Sort(paths)
		return paths
	}
	if got := paths(); !slices.Equal(got, want) {
		t.Errorf("put aside: %q, want %q", got, want)
	}
	if done, err := wal.Acknowledge(data); err != nil || len(done) != len(want) {
		t.Errorf("acknowledged %q, %v", done, err)
	}
	if got := paths(); len(got) > 0 {
		t.Errorf("still put aside: %q", got)
	}
}
