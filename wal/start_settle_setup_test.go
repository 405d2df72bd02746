package wal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"collectord/collectord/testrun"
	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// killedDirRecords is the number of records in killedDir.
const killedDirRecords = 17

// killedDir returns a data directory as kill -9 leaves it, with five sealed segments of
// three records each and two records in the active one.
func killedDir(t *testing.T) (dir string, names []string) {
	t.Helper()
	l := openLog(t, t.TempDir(), Options{Node: "edge-1", SegmentSize: 4 << 10})
	for i := range killedDirRecords {
		mustAppend(t, l, Record{Usage: usage(i)})
		if i%3 == 2 {
			mustSeal(t, l)
			names = append(names, segment.SealedName(uint64(i-1), uint64(i+1)))
		}
	}
	dir = memoryDir(t)
	copyDir(t, l.dir, filepath.Join(dir, "wal"))
	return dir, append(names, segment.ActiveName(16))
}

// memoryDir returns a directory, in memory if possible, where a sync takes no time.
func memoryDir(t *testing.T) string {
	t.Helper()
	testrun.WaitPastHourEnd()
	dir, err := os.MkdirTemp("/dev/shm", "collectord-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// checkNothingLost opens and ships a log. It asserts that each record is in a sealed
// segment, exactly once, or in the quarantine and noted as lost, or outside of the log,
// where it was left.
func checkNothingLost(t *testing.T, dir string, elsewhere ...string) (shipped int, l *Log) {
	t.Helper()
	l = openLog(t, dir, Options{Node: "edge-1", SegmentSize: 4 << 10})
	if err := l.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[int]int{}
	segments, _ := l.Sealed()
	for _, s := range segments {
		if _, err := s.Header(); errors.Is(err, vfs.ErrNotRegular) {
			continue // an administrator has to act
		}
		for _, err := range s.Records() {
			if err != nil {
				if _, err := l.Salvage(s); err != nil {
					t.Error(err)
				}
			}
		}
	}
	segments, _ = l.Sealed()
	for _, s := range segments {
		if _, err := s.Header(); errors.Is(err, vfs.ErrNotRegular) {
			continue
		}
		for r, err := range s.Records() {
			if err != nil {
				t.Errorf("segment %s: %v", s, err)
				break
			}
			if !bytes.Equal(r.Usage, usage(int(r.Seq-1))) {
				t.Errorf("seq %d has the wrong usage %s", r.Seq, r.Usage)
			}
			seen[int(r.Seq-1)]++
		}
	}
	notes, err := l.Losses()
	if err != nil {
		t.Error(err)
	}
	for _, n := range notes {
		for seq := n.FirstSeq; seq <= min(n.LastSeq, killedDirRecords); seq++ {
			if seen[int(seq-1)] > 0 {
				t.Errorf("record %d is noted as lost and shipped", seq)
			}
		}
	}
	for i := range killedDirRecords {
		switch {
		case seen[i] > 1:
			t.Errorf("record %d is shipped %d times", i+1, seen[i])
		case seen[i] == 0 && !anyFileContains(t, usage(i), append(elsewhere, filepath.Join(l.dir, quarantineName))):
			t.Errorf("record %d is neither shipped nor in a file", i+1)
		}
	}
	checkLedger(t, l)
	return len(seen), l
}

// anyFileContains reports whether a file below one of the directories contains b.
func anyFileContains(t *testing.T, b []byte, dirs []string) (found bool) {
	t.Helper()
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				content, readErr := os.ReadFile(path)
				if readErr != nil {
					t.Error(readErr)
				}
				found = found || bytes.Contains(content, b)
			}
			return nil
		})
	}
	return found
}

// countFilesWith returns the number of files below the directories that contain b.
func countFilesWith(t *testing.T, b []byte, dirs ...string) (n int) {
	t.Helper()
	for _, dir := range dirs {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, below := range []string{real, filepath.Join(real, "wal")} {
			if resolved, err := filepath.EvalSymlinks(below); err == nil && resolved == below && below != real {
				continue // already counted
			}
			_ = filepath.WalkDir(below, func(path string, e fs.DirEntry, err error) error {
				if err == nil && e.Type().IsRegular() {
					if content, err := os.ReadFile(path); err == nil && bytes.Contains(content, b) {
						n++
					}
				}
				return nil
			})
		}
	}
	return n
}
