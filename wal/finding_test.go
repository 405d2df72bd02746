package wal

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"collectord/wal/segment"
)

// findings returns the counters of findings that are not zero.
func findings(l *Log) map[Finding]uint64 {
	f := l.Stats().Findings
	maps.DeleteFunc(f, func(_ Finding, n uint64) bool { return n == 0 })
	return f
}

// TestAStartReportsEveryFinding damages a directory in every way that a crash, a disk
// or a person can. Each time the log must start, return the remaining records, log each
// finding in one line, count it, accept more records, and start again.
func TestAStartReportsEveryFinding(t *testing.T) {
	type row struct {
		name string
		make func(t *testing.T, dir string) // dir is the log directory
		want []int                          // remaining usages, of 0 to 5
		lost []int                          // usages noted as lost
		kind Finding                        // expected finding besides those of the crash, or empty
	}
	check := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	all := []int{0, 1, 2, 3, 4, 5}
	sealed, active := segment.SealedName(1, 3), segment.ActiveName(4)
	rewrite := func(t *testing.T, dir, name string, change func(b []byte, ends []int64) []byte) {
		t.Helper()
		path := filepath.Join(dir, name, segment.FileName)
		ends := frameEnds(t, path)
		b, err := os.ReadFile(path)
		check(t, err)
		check(t, os.WriteFile(path, change(b, ends), 0o640))
	}
	for _, r := range []row{
		{"nothing but a crash", func(*testing.T, string) {}, all, nil, ""},
		{"a stray file", func(t *testing.T, dir string) {
			check(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
		}, all, nil, FoundStray},
		{"a stray directory", func(t *testing.T, dir string) {
			check(t, os.Mkdir(filepath.Join(dir, "7-9"), 0o700))
		}, all, nil, FoundStray},
		{"a file named like a segment", func(t *testing.T, dir string) {
			check(t, os.WriteFile(filepath.Join(dir, segment.ActiveName(9)), nil, 0o600))
		}, all, nil, FoundStray},
		{"a file beside the segment's", func(t *testing.T, dir string) {
			check(t, os.WriteFile(filepath.Join(dir, sealed, "core"), []byte("x"), 0o600))
		}, all, nil, ""},
		{"an empty directory named like the next segment", func(t *testing.T, dir string) {
			check(t, os.Mkdir(filepath.Join(dir, segment.ActiveName(7)), 0o700))
		}, all, nil, FoundNoRecords},
		{"an empty directory named like a sealed segment", func(t *testing.T, dir string) {
			check(t, os.RemoveAll(filepath.Join(dir, sealed)))
			check(t, os.Mkdir(filepath.Join(dir, sealed), 0o700))
		}, []int{3, 4, 5}, []int{0, 1, 2}, FoundNoFile},
		{"a missing sealed segment", func(t *testing.T, dir string) { // as if it had been shipped
			check(t, os.RemoveAll(filepath.Join(dir, sealed)))
		}, []int{3, 4, 5}, nil, ""},
		{"a missing active segment", func(t *testing.T, dir string) {
			check(t, os.RemoveAll(filepath.Join(dir, active)))
		}, []int{0, 1, 2}, nil, ""},
		{"no prepared segment", func(t *testing.T, dir string) { check(t, os.RemoveAll(filepath.Join(dir, nextName))) }, all, nil, ""},
		{"a prepared segment with half a header", func(t *testing.T, dir string) {
			check(t, os.Truncate(filepath.Join(dir, nextName, segment.FileName), 20))
		}, all, nil, ""},
		{"a prepared segment without a file", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, nextName, segment.FileName)))
		}, all, nil, ""},
		{"a prepared segment with frames", func(t *testing.T, dir string) {
			check(t, os.RemoveAll(filepath.Join(dir, nextName)))
			check(t, os.Rename(filepath.Join(dir, active), filepath.Join(dir, nextName)))
		}, all, nil, FoundUnnamedNext},
		{"an interrupted removal", func(t *testing.T, dir string) {
			check(t, os.Rename(filepath.Join(dir, sealed), filepath.Join(dir, sealed+goneSuffix)))
		}, []int{3, 4, 5}, nil, FoundRemoval},
		{"an interrupted salvage", func(t *testing.T, dir string) {
			check(t, os.CopyFS(filepath.Join(dir, salvageName, segment.SealedName(1, 2)), os.DirFS(filepath.Join(dir, sealed))))
		}, all, nil, FoundSalvage},
		{"no LOG", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, identityName))) }, all, nil, FoundIdentity},
		{"an empty LOG", func(t *testing.T, dir string) {
			check(t, os.Truncate(filepath.Join(dir, identityName), 0))
		}, all, nil, FoundIdentity},
		{"a LOG with another digit", func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, identityName))
			check(t, err)
			if b[20]++; b[20] != '1' { // a digit of the log id, which is random
				b[20] = '0'
			}
			check(t, os.WriteFile(filepath.Join(dir, identityName), b, 0o600))
		}, all, nil, FoundIdentity},
		{"a loss note that can't be read", func(t *testing.T, dir string) {
			check(t, os.WriteFile(filepath.Join(dir, lostName, segment.SealedName(1, 2)+"-0123456789abcdef"), []byte("x"), 0o600))
		}, all, nil, FoundUnreadableNote},
		{"a bit flipped in the middle of the active segment", func(t *testing.T, dir string) {
			rewrite(t, dir, active, func(b []byte, ends []int64) []byte { b[ends[2]-1] ^= 1; return b })
		}, []int{0, 1, 2, 3, 5}, []int{4}, FoundDamage},
		{"a length too long in the active segment", func(t *testing.T, dir string) {
			rewrite(t, dir, active, func(b []byte, ends []int64) []byte { b[ends[1]]++; return b })
		}, all, nil, FoundDamage},
		{"a length of zero in the active segment", func(t *testing.T, dir string) {
			rewrite(t, dir, active, func(b []byte, ends []int64) []byte { b[ends[1]] = 0; return b })
		}, all, nil, FoundDamage},
		{"a length beyond the file in the active segment", func(t *testing.T, dir string) {
			rewrite(t, dir, active, func(b []byte, ends []int64) []byte { b[ends[0]] |= 0x80; return b })
		}, all, nil, FoundDamage},
		{"a header with a flipped bit in the active segment", func(t *testing.T, dir string) {
			rewrite(t, dir, active, func(b []byte, _ []int64) []byte { b[9] ^= 1; return b })
		}, all, nil, FoundDamage},
		{"a header with a flipped bit in the sealed segment", func(t *testing.T, dir string) {
			rewrite(t, dir, sealed, func(b []byte, _ []int64) []byte { b[9] ^= 1; return b })
		}, all, nil, FoundDamage},
		{"a torn tail", func(t *testing.T, dir string) {
			rewrite(t, dir, active, func(b []byte, ends []int64) []byte { return append(b[:ends[3]], b[ends[2]:ends[3]-3]...) })
		}, all, nil, FoundTornTail},
		{"an active segment cut within its header", func(t *testing.T, dir string) {
			check(t, os.Truncate(filepath.Join(dir, active, segment.FileName), 11))
		}, []int{0, 1, 2}, nil, FoundNoRecords},
		{"an active segment of zeros", func(t *testing.T, dir string) {
			rewrite(t, dir, active, func(b []byte, _ []int64) []byte { clear(b); return b })
		}, []int{0, 1, 2}, nil, FoundNoRecords},
		// 		// The records show to which segment each file belongs.
		{"the files of two segments swapped", func(t *testing.T, dir string) {
			a, b := filepath.Join(dir, sealed, segment.FileName), filepath.Join(dir, active, segment.FileName)
			check(t, os.Rename(a, a+".x"))
			check(t, os.Rename(b, a))
			check(t, os.Rename(a+".x", b))
		}, all, nil, ""},
		{"a segment copied under the name of a later one", func(t *testing.T, dir string) {
			check(t, os.RemoveAll(filepath.Join(dir, active)))
			check(t, os.CopyFS(filepath.Join(dir, active), os.DirFS(filepath.Join(dir, sealed))))
		}, []int{0, 1, 2}, nil, FoundNoRecords},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			dir := memoryDir(t)
			before := openLog(t, memoryDir(t), Options{Node: "edge-1", SegmentSize: 4 << 10})
			for i := range all {
				mustAppend(t, before, Record{Usage: usage(i)})
				if i == 2 {
					mustSeal(t, before)
				}
			}
			log := filepath.Join(dir, "wal") // as kill -9 leaves it: 1 to 3 are sealed, 4 to 6 are not
			check(t, os.CopyFS(log, os.DirFS(before.dir)))
			r.make(t, log)

			var lines bytes.Buffer
			l := openLog(t, dir, Options{Node: "edge-1", SegmentSize: 4 << 10, Logger: slog.New(slog.NewTextHandler(&lines, nil))})
			salvageAll(t, l)
			if got := usagesOf(t, l); fmt.Sprint(got) != fmt.Sprint(r.want) {
				t.Errorf("usages %v, want %v", got, r.want)
			}
			checkLosses(t, l, r.lost)
			checkLedger(t, l)
			counted := findings(l)
			if r.kind != "" && counted[r.kind] != 1 {
				t.Errorf("%s counted %d times: %v", r.kind, counted[r.kind], counted)
			}
			for kind, n := range counted {
				if logged := strings.Count(lines.String(), "finding="+string(kind)+" "); uint64(logged) != n {
					t.Errorf("%s is counted %d times and logged %d times", kind, n, logged)
				}
			}
			if r.kind != "" && len(counted) > 2 && !maps.Equal(counted, map[Finding]uint64{FoundDamage: 1, FoundTornTail: 1, FoundOpenSegment: 1}) {
				t.Errorf("findings %v", counted)
			}

			first := l.queue.nextSeq
			mustAppend(t, l, Record{Usage: usage(int(first - 1))})
			mustClose(t, l)
			l = openLog(t, dir, Options{Node: "edge-1", SegmentSize: 4 << 10})
			if got := usagesOf(t, l); fmt.Sprint(got) != fmt.Sprint(append(r.want, int(first-1))) {
				t.Errorf("usages after another start %v, want %v and %d", got, r.want, first-1)
			}
			for kind := range findings(l) {
				if kind != FoundStray {
					t.Errorf("%s is found again", kind)
				}
			}
			checkLosses(t, l, r.lost)
		})
	}
}
