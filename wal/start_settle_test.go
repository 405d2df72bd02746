package wal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"collectord/collectord/testrun"
	"collectord/wal/segment"
)

// TestAWrongDigitInANameLosesNothing changes each digit of each name in turn.
func TestAWrongDigitInANameLosesNothing(t *testing.T) {
	dir, names := killedDir(t)
	tried := 0
	for _, name := range names {
		for i := range name {
			if name[i] == '-' {
				continue
			}
			for _, delta := range []byte{1, 9} {
				if tried++; tried%testrun.OneIn(5) != 0 {
					continue // the digits differ little; TEST_ALL=1 tries each
				}
				wrong := name[:i] + string('0'+(name[i]-'0'+delta)%10) + name[i+1:]
				t.Run(fmt.Sprintf("%s for %s", wrong, name), func(t *testing.T) {
					t.Parallel()
					copied := memoryDir(t)
					copyDir(t, dir, copied)
					if err := os.Rename(filepath.Join(copied, "wal", name), filepath.Join(copied, "wal", wrong)); err != nil {
						t.Fatal(err)
					}
					n, l := checkNothingLost(t, copied)
					if notes, _ := l.Losses(); n != killedDirRecords || len(notes) > 0 {
						t.Errorf("%d of %d records are shipped, notes %+v", n, killedDirRecords, notes)
					}
					mustClose(t, l)
					if n, _ = checkNothingLost(t, copied); n != killedDirRecords {
						t.Errorf("after another start %d of %d records are shipped", n, killedDirRecords)
					}
				})
			}
		}
	}
}

// TestNothingInTheLogDirectoryIsDeletedForItsName puts stray entries of all kinds
// there.
func TestNothingInTheLogDirectoryIsDeletedForItsName(t *testing.T) {
	check := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, names := killedDir(t)
	foreign := []byte("somebody else's")
	put := func(t *testing.T, path string) {
		t.Helper()
		check(t, os.MkdirAll(filepath.Dir(path), 0o700))
		check(t, os.WriteFile(path, foreign, 0o600))
	}
	for _, row := range []struct {
		name  string
		all   bool // every record can still be shipped
		spoil func(t *testing.T, log, aside string)
	}{
		{"names swapped", true, func(t *testing.T, log, _ string) {
			a, b := filepath.Join(log, names[1]), filepath.Join(log, names[3])
			check(t, os.Rename(a, a+"x"))
			check(t, os.Rename(b, a))
			check(t, os.Rename(a+"x", b))
		}},
		{"a copy under the name of another range", true, func(t *testing.T, log, _ string) {
			copyDir(t, filepath.Join(log, names[1]), filepath.Join(log, segment.SealedName(41, 43)))
		}},
		{"a copy under the name of a larger range", true, func(t *testing.T, log, _ string) {
			copyDir(t, filepath.Join(log, names[1]), filepath.Join(log, segment.SealedName(1, 43)))
		}},
		{"a copy of the active segment", true, func(t *testing.T, log, _ string) {
			copyDir(t, filepath.Join(log, names[5]), filepath.Join(log, segment.ActiveName(2)))
		}},
		{"a copy of the active segment under a sealed name", true, func(t *testing.T, log, _ string) {
			copyDir(t, filepath.Join(log, names[5]), filepath.Join(log, segment.SealedName(16, 17)))
		}},
		{"a segment under the name of the directory for pieces", false, func(t *testing.T, log, _ string) {
			check(t, os.MkdirAll(filepath.Join(log, salvageName), 0o700))
			check(t, os.Rename(filepath.Join(log, names[1]), filepath.Join(log, salvageName, names[1])))
		}},
		{"a segment under the name of the next one", true, func(t *testing.T, log, _ string) {
			check(t, os.RemoveAll(filepath.Join(log, nextName)))
			check(t, os.Rename(filepath.Join(log, names[1]), filepath.Join(log, nextName)))
		}},
		{"a prepared segment with damaged bytes", true, func(t *testing.T, log, _ string) {
			path := filepath.Join(log, nextName, segment.FileName)
			b, err := os.ReadFile(path)
			check(t, err)
			check(t, os.WriteFile(path, append(b[:200], foreign...), 0o600))
		}},
		{"files beside those of segments", true, func(t *testing.T, log, _ string) {
			for _, name := range append(names, nextName) {
				put(t, filepath.Join(log, name, "core"))
			}
		}},
		{"files beside those of removed segments", true, func(t *testing.T, log, _ string) {
			put(t, filepath.Join(log, segment.SealedName(31, 32)+goneSuffix, "core"))
			put(t, filepath.Join(log, segment.ActiveName(30), "core"))
			put(t, filepath.Join(log, salvageName, "core"))
		}},
		{"files with the names of directories", true, func(t *testing.T, log, _ string) {
			for _, name := range []string{segment.ActiveName(18), segment.ActiveName(19), segment.SealedName(30, 31), segment.SealedName(32, 33) + goneSuffix, salvageName} {
				put(t, filepath.Join(log, name))
			}
		}},
		{"links with the names of directories", true, func(t *testing.T, log, aside string) {
			put(t, filepath.Join(aside, segment.FileName))
			check(t, os.RemoveAll(filepath.Join(log, nextName)))
			for _, name := range []string{segment.ActiveName(18), segment.ActiveName(19), segment.SealedName(32, 33) + goneSuffix, salvageName, nextName} {
				check(t, os.Symlink(aside, filepath.Join(log, name)))
			}
		}},
		{"links with the names of files", true, func(t *testing.T, log, aside string) {
			target := filepath.Join(aside, "target")
			put(t, target)
			check(t, os.Remove(filepath.Join(log, lostName, reserveName)))
			for _, name := range []string{identityName + ".tmp", lostName + "/" + reserveName, "../LOCKED"} {
				check(t, os.Symlink(target, filepath.Join(log, name)))
			}
		}},
		{"a segment behind a link", false, func(t *testing.T, log, aside string) {
			check(t, os.Rename(filepath.Join(log, names[1]), filepath.Join(aside, "moved")))
			check(t, os.Symlink(filepath.Join(aside, "moved"), filepath.Join(log, names[1])))
		}},
		{"a file of a segment behind a link", false, func(t *testing.T, log, aside string) {
			check(t, os.Rename(filepath.Join(log, names[1], segment.FileName), filepath.Join(aside, "moved")))
			check(t, os.Symlink(filepath.Join(aside, "moved"), filepath.Join(log, names[1], segment.FileName)))
		}},
		{"the active segment's file behind a link", false, func(t *testing.T, log, aside string) {
			check(t, os.Rename(filepath.Join(log, names[5], segment.FileName), filepath.Join(aside, "moved")))
			check(t, os.Symlink(filepath.Join(aside, "moved"), filepath.Join(log, names[5], segment.FileName)))
		}},
		{"a link in the place of a segment with another name", true, func(t *testing.T, log, aside string) {
			check(t, os.Rename(filepath.Join(log, names[1]), filepath.Join(log, segment.SealedName(4, 7))))
			check(t, os.Symlink(aside, filepath.Join(log, names[1])))
		}},
		{"a link in the place of what an unsealed segment becomes", true, func(t *testing.T, log, aside string) {
			check(t, os.Symlink(aside, filepath.Join(log, segment.SealedName(16, killedDirRecords))))
		}},
		{"the log behind a link", true, func(t *testing.T, log, aside string) {
			check(t, os.Rename(log, filepath.Join(aside, "moved")))
			check(t, os.Symlink(filepath.Join(aside, "moved"), log))
		}},
		{"the data directory behind a link", true, func(t *testing.T, log, aside string) {
			data := filepath.Dir(log)
			check(t, os.Rename(data, filepath.Join(aside, "moved")))
			check(t, os.Symlink(filepath.Join(aside, "moved"), data))
		}},
		{"stray entries in the directory of the notes", true, func(t *testing.T, log, _ string) {
			put(t, filepath.Join(log, lostName, "directory", "file"))
			check(t, os.Symlink("nowhere", filepath.Join(log, lostName, "link")))
		}},
		{"a note under the name of another", true, func(t *testing.T, log, _ string) {
			n := LossNote{Node: "edge-1", LogID: 1, FirstSeq: 101, LastSeq: 102, Reason: LossEvicted}
			check(t, os.WriteFile(filepath.Join(log, lostName, segment.SealedName(101, 109)), n.encode(), 0o600))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			data, aside := filepath.Join(memoryDir(t), "data"), memoryDir(t)
			copyDir(t, dir, data)
			row.spoil(t, filepath.Join(data, "wal"), aside)
			strayFiles := countFilesWith(t, foreign, data, aside)
			for range 2 {
				n, l := checkNothingLost(t, data, aside)
				if row.all && n != killedDirRecords {
					t.Errorf("%d of %d records are shipped", n, killedDirRecords)
				}
				if row.all {
					segments, _ := l.Sealed()
					if err := segments[0].Remove(); err != nil { // and copy it back below
						t.Error(err)
					}
					copyDir(t, filepath.Join(dir, "wal", names[0]), filepath.Join(l.dir, names[0]))
				}
				mustClose(t, l)
				if now := countFilesWith(t, foreign, data, aside); now != strayFiles {
					t.Errorf("%d of %d stray files are left", now, strayFiles)
				}
			}
			l := openLog(t, data, Options{Node: "edge-1", SegmentSize: 4 << 10})
			notes, err := l.Losses()
			if err != nil {
				t.Error(err)
			}
			for _, n := range notes {
				if err := l.LossStored(n); err != nil {
					t.Error(err)
				}
			}
			if notes, _ = l.Losses(); len(notes) > 0 {
				t.Errorf("notes remain after LossStored: %+v", notes)
			}
		})
	}
}

// In the data directory, too, the daemon does not follow links in place of its files.
func TestALockThatIsALinkIsPutAside(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "LOCK")); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, dir, Options{})
	if other, err := Open(dir, Options{}); err == nil {
		other.Close()
		t.Error("a second daemon starts")
	} else if !strings.Contains(err.Error(), "in use") {
		t.Error(err)
	}
	if b, _ := os.ReadFile(target); string(b) != "x" {
		t.Errorf("the target contains %q, want x", b)
	}
	mustClose(t, l)
}
