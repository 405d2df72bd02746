package wal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal"
)

// strayText is the content of files that no log wrote.
const strayText = "not part of a log\n"

// entryKind is a kind of entry that can replace a file or directory of the log.
type entryKind struct {
	name      string
	needsRoot bool // only root can make it
	make      func(path string) error
}

// entryKinds returns the kinds of entries. A user other than root opens the log.
func entryKinds() []entryKind {
	node := func(mode uint32, dev int) func(string) error {
		return func(path string) error { return unix.Mknod(path, mode|0o600, dev) }
	}
	link := func(target func(path string) (string, error)) func(string) error {
		return func(path string) error {
			to, err := target(path)
			return errors.Join(err, os.Symlink(to, path))
		}
	}
	elsewhere := func(path string) string { return filepath.Join(filepath.Dir(dataOf(path)), "elsewhere") }
	owned := func(path string) error {
		return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, 0, 0), os.Chmod(path, 0o700))
		})
	}
	return []entryKind{
		{name: "an empty file", make: replacing(func(path string) error { return os.WriteFile(path, nil, 0o600) })},
		{name: "a file", make: replacing(func(path string) error { return os.WriteFile(path, []byte(strayText), 0o600) })},
		{name: "a sparse file", make: replacing(func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(strayText), 0o600), os.Truncate(path, 20<<30))
		})},
		{name: "an empty directory", make: replacing(func(path string) error { return os.Mkdir(path, 0o700) })},
		{name: "a directory with files", make: replacing(func(path string) error {
			return errors.Join(os.MkdirAll(filepath.Join(path, "x"), 0o700), os.WriteFile(filepath.Join(path, "x", "y"), []byte(strayText), 0o600))
		})},
		{name: "a FIFO", make: replacing(node(unix.S_IFIFO, 0))},
		{name: "a socket", make: replacing(node(unix.S_IFSOCK, 0))},
		{name: "a device", needsRoot: true, make: replacing(node(unix.S_IFCHR, int(unix.Mkdev(1, 5))))}, // endless zeros
		{name: "a dangling link", make: replacing(link(func(string) (string, error) { return "/nonexistent/x", nil }))},
		{name: "a link to itself", make: replacing(link(func(path string) (string, error) { return filepath.Base(path), nil }))},
		{name: "a link to a file", make: replacing(link(func(path string) (string, error) {
			return elsewhere(path), os.WriteFile(elsewhere(path), []byte(strayText), 0o600)
		}))},
		{name: "a link to what was there", make: func(path string) error {
			if _, err := os.Lstat(path); err == nil {
				return errors.Join(os.Rename(path, elsewhere(path)), os.Symlink(elsewhere(path), path))
			}
			return errors.Join(os.Mkdir(elsewhere(path), 0o700), os.Symlink(elsewhere(path), path))
		}},
		{name: "an unreadable entry", make: func(path string) error {
			if _, err := os.Lstat(path); err != nil {
				return os.WriteFile(path, []byte(strayText), 0)
			}
			return os.Chmod(path, 0)
		}},
		{name: "an entry of another user", needsRoot: true, make: func(path string) error {
			if _, err := os.Lstat(path); err != nil {
				return os.WriteFile(path, []byte(strayText), 0o600)
			}
			return owned(path)
		}},
	}
}

// replacing makes an entry in place of what is at a path.
func replacing(by func(path string) error) func(string) error {
	return func(path string) error { return errors.Join(os.RemoveAll(path), by(path)) }
}

// dataOf returns the data directory that contains a path.
func dataOf(path string) string {
	for filepath.Base(path) != "data" {
		path = filepath.Dir(path)
	}
	return path
}

// unexpectedPlaces are paths in the data directory, and the usages, of 0 to 6, that can
// be lost with each. Usage 6 is in a segment that a crash left open.
var unexpectedPlaces = []struct {
	path string
	lost []int
}{
	{"LOCK", nil},
	{"wal", []int{0, 1, 2, 3, 4, 5, 6}},
	{"spool", nil},
	{"wal/LOG", nil},
	{"wal/LOG.tmp", nil},
	{"wal/next", nil},
	{"wal/next/00000000000000000001", nil},
	{"wal/lost", nil},
	{"wal/lost/reserve", nil},
	{"wal/lost/00000000000000000001-00000000000000000002-0000000000000001", nil},
	{"wal/lost/00000000000000000001-00000000000000000002-0000000000000001.tmp", nil},
	{"wal/quarantine", nil},
	{"wal/quarantine/x", nil},
	{"wal/salvage", nil},
	{"wal/00000000000000000003-00000000000000000004", []int{2, 3}},
	{"wal/00000000000000000003-00000000000000000004/00000000000000000001", []int{2, 3}},
	{"wal/00000000000000000007", []int{6}},
	{"wal/00000000000000000007/00000000000000000001", []int{6}},
	{"wal/00000000000000000008", nil}, // the name of the next active segment
	{"wal/00000000000000000008-00000000000000000009", nil},
	{"wal/00000000000000000008-00000000000000000009.gone", nil},
	{"wal/00000000000000000008-00000000000000000009.evicted", nil},
	{"wal/00000000000000000008-00000000000000000009.damaged", nil},
	{"wal/00000000000000000008-00000000000000000009.unread", nil},
	{"wal/00000000000000000008-00000000000000000009.tail", nil},
	{"wal/00000000000000000008-00000000000000000009.lost", nil},
	{"wal/00000000000000000008.moving", nil},
	{"wal/00000000000000000008.renaming", nil},
}

// TestItStartsWhateverIsThere prepares data directories, as root if possible, and
// starts a log in each, in a process of another user.
func TestItStartsWhateverIsThere(t *testing.T) {
	starts := unexpectedStarts()
	if base := os.Getenv("COLLECTORD_TEST_STARTS"); base != "" {
		for i, c := range starts {
			if dir := filepath.Join(base, fmt.Sprint(i)); exists(dir) {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.start(t, filepath.Join(dir, "data"))
				})
			}
		}
		return
	}
	t.Parallel()
	base, whole := scratchDir(t), filepath.Join(t.TempDir(), "data")
	makeOpenLog(t, whole)
	root := os.Geteuid() == 0
	kept := make([]map[string]string, len(starts))
	for i, c := range starts {
		if c.needsRoot && !root {
			t.Log("needs root to be prepared:", c.name)
			continue
		}
		dir := filepath.Join(base, fmt.Sprint(i))
		err := os.CopyFS(filepath.Join(dir, "data"), os.DirFS(whole))
		if root {
			err = errors.Join(err, chownToNobody(dir))
		}
		if err = errors.Join(err, c.make(filepath.Join(dir, "data"))); err == nil && root && !c.needsRoot {
			err = chownToNobody(dir)
		}
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.keptPlace != "" {
			kept[i] = filesBelow(t, filepath.Join(dir, "elsewhere"))
			maps.Copy(kept[i], filesBelow(t, filepath.Join(dir, "data", c.keptPlace)))
		}
	}
	runAsNobody(t, base, "COLLECTORD_TEST_STARTS="+base)
	for i, c := range starts {
		there := filesBelow(t, filepath.Join(base, fmt.Sprint(i)))
		for what, path := range kept[i] {
			if there[what] == "" {
				t.Errorf("%s: %s is missing", c.name, path)
			}
		}
	}
}

// start starts a log three times, and ships each time.
func (c *trialStart) start(t *testing.T, data string) {
	o := wal.Options{
		Node: "edge-1", SegmentSize: 4 << 10, MachineID: "/nonexistent", ProbeMin: time.Millisecond, ProbeMax: 10 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	open := func() (l *wal.Log, err error) {
		mustFinish(t, "the start", func() { l, err = wal.Open(data, o) })
		return l, err
	}
	l, err := open()
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	stop := func() {
		mustFinish(t, "the stop", func() { err = l.Close() })
		if err != nil && !errors.Is(err, wal.ErrClosed) {
			t.Errorf("stop: %v", err)
		}
	}
	defer func() { stop() }()
	if c.repair != nil {
		if err := l.Append(t.Context(), wal.Record{Usage: []byte(`{"n":0}`)}); !errors.Is(err, wal.ErrUnavailable) {
			t.Fatalf("append before the repair: %v", err)
		}
		if err := c.repair(data); err != nil {
			t.Fatal(err)
		}
	}
	appendOnceWritable(t, l, `{"n":9}`)
	shipped := shipAll(t, l)
	if notes, err := l.Losses(); c.noNotes && (err != nil || len(notes) > 0) {
		t.Errorf("notes %v, %v", notes, err)
	}
	appendOnceWritable(t, l, `{"n":7}`)
	for n := range 7 {
		if !slices.Contains(shipped, n) && !slices.Contains(c.lost, n) {
			t.Errorf("usage %d is not shipped: %v", n, shipped)
		}
	}
	stop()

	var before []string
	var aside int
	for n, ordinal := range []string{"second", "third"} {
		if l, err = open(); err != nil {
			t.Fatalf("%s start: %v", ordinal, err)
		}
		found, now := l.Stats().Findings, l.Stats().PutAside
		if shipped = shipAll(t, l); !slices.Equal(shipped, []int{7 + n}) {
			t.Errorf("the %s start ships %v", ordinal, shipped)
		}
		for finding, n := range found {
			leftAlone := finding == wal.FoundStray || finding == wal.FoundUnreadable || finding == wal.FoundUnreadableNote || finding == wal.FoundLaterVersion
			if n > 0 && !leftAlone {
				t.Errorf("the %s start found %d times %s", ordinal, n, finding)
			}
		}
		appendOnceWritable(t, l, fmt.Sprintf(`{"n":%d}`, 8+n))
		stop()
		after := quarantined(t, data)
		if n > 0 && (!slices.Equal(before, after) || now != aside) {
			t.Errorf("the %s start has %d entries put aside, before %d; the quarantine contains %q, before %q", ordinal, now, aside, after, before)
		}
		before, aside = after, now
	}
}
