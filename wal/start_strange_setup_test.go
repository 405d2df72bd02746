package wal_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"collectord/collectord/testrun"
	"collectord/wal"
)

var everyStart = flag.Bool("every-start", false, "try every shape in every place, not a sixth of them")

const nobody = 65534

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// chownToNobody makes another user the owner of everything below dir.
func chownToNobody(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	})
}

// filesBelow returns the paths of all files with content, by inode; stray files, which
// may be copied, have one common key.
func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		begins := make([]byte, len(strayText))
		if _, err := file.ReadAt(begins, 0); err != nil || string(begins) != strayText {
			files[fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino)] = path
		} else {
			files[strayText] = path // it may be a copy
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

// runAsNobody runs the calling test in a process of an unprivileged user. The test
// recognizes the process by the variable.
func runAsNobody(t *testing.T, base, variable string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	copied := filepath.Join(base, "test") // the other user can run it
	if err = errors.Join(err, testrun.WriteProgram(copied, program)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "-test.run", "^"+t.Name()+"$", "-test.timeout", "10m", "-test.parallel", "16")
	if *everyStart {
		cmd.Args = append(cmd.Args, "-every-start")
	}
	cmd.Env, cmd.Dir = append(os.Environ(), variable), base
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Lchown(base, nobody, nobody), os.Lchown(copied, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}

// testLimit is the time that a test waits for an expected event. It is much longer than
// a busy machine needs.
const testLimit = 2 * time.Minute

// mustFinish fails the test if do does not return in time.
func mustFinish(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(testLimit):
		t.Fatalf("%s hangs", what)
	}
}

// appendOnceWritable appends a usage once the log is writable.
func appendOnceWritable(t *testing.T, l *wal.Log, usage string) {
	t.Helper()
	mustFinish(t, "an append", func() {
		err := l.Append(t.Context(), wal.Record{Usage: []byte(usage)})
		for deadline := time.Now().Add(testLimit / 2); errors.Is(err, wal.ErrUnavailable) && time.Now().Before(deadline); {
			<-time.After(time.Millisecond)
			err = l.Append(t.Context(), wal.Record{Usage: []byte(usage)})
		}
		if err != nil {
			t.Errorf("append: %v", err)
		}
	})
}

// shipAll removes all segments as if they had been shipped, and returns their usages.
// It salvages segments that can't be read.
func shipAll(t *testing.T, l *wal.Log) (shipped []int) {
	t.Helper()
	mustFinish(t, "shipping", func() {
		_ = l.Seal(t.Context())
		for range 5 {
			segments, _ := l.Sealed()
			for _, s := range segments {
				var usages []int
				var err error
				for r, e := range s.Records() {
					if err = e; err == nil {
						n := -1
						_, _ = fmt.Sscanf(string(r.Usage), `{"n":%d`, &n)
						usages = append(usages, n)
					}
				}
				if err == nil {
					shipped = append(shipped, usages...)
					err = s.Remove()
				} else if !errors.Is(err, wal.ErrVersion) {
					_, err = l.Salvage(s)
				}
				if unread := (*wal.UnreadableError)(nil); err != nil && !errors.As(err, &unread) && !errors.Is(err, wal.ErrVersion) {
					t.Errorf("segment %s: %v", s, err)
				}
			}
		}
	})
	return shipped
}

// quarantined returns the names in the quarantine.
func quarantined(t *testing.T, data string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(data, "wal", "quarantine"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Log(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
