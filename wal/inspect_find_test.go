package wal

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/errorfs"
)

// exported returns the seqs that Export yields for a name.
func exported(t *testing.T, dir, name string) (seqs []uint64, r *Report) {
	t.Helper()
	i, e, err := Find(dir, name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	r, err = i.Export(e, func(rec *Record) error {
		if !bytes.Equal(rec.Usage, usage(int(rec.Seq-1))) {
			t.Errorf("%s: seq %d has the wrong usage %s", name, rec.Seq, rec.Usage)
		}
		seqs = append(seqs, rec.Seq)
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return seqs, r
}

// fingerprint returns a hash that changes if anything below dir does.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, info.Mode(), info.ModTime())
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			h.Write(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

// TestExportReturnsEveryIntactRecordUnderAnyName gives a segment with the records 1 to
// 6 every name that a directory of the log can have, and damages it in every way.
func TestExportReturnsEveryIntactRecordUnderAnyName(t *testing.T) {
	source, file := sealedDir(t, 6)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ends := frameEnds(t, file)
	logFile, err := os.ReadFile(filepath.Join(source, "wal", identityName))
	if err != nil {
		t.Fatal(err)
	}
	sealed, seqs := segment.SealedName(1, 6), []uint64{1, 2, 3, 4, 5, 6}
	names := map[string][]uint64{ // seqs of the name
		sealed: seqs, segment.ActiveName(1): seqs, nextName: seqs,
		segment.SealedName(2, 4): {2, 3, 4}, // the other records are not its own
		sealed + renamingSuffix:  seqs, sealed + vfs.MovingSuffix: seqs, sealed + evictedSuffix: seqs, sealed + damagedSuffix: seqs, sealed + goneSuffix: seqs,
		segment.SealedName(3, 3) + unreadSuffix:                 {3},
		segment.SealedName(5, 9) + tailSuffix:                   {5, 6},
		segment.SealedName(2, 3) + lostSuffix:                   {2, 3},
		segment.SealedName(2, 3) + unreadSuffix + damagedSuffix: {2, 3},

		"quarantine/" + sealed + "-0123456789abcdef":                                seqs,
		"quarantine/" + sealed + "-0123456789abcdef-2":                              seqs,
		"quarantine/" + segment.SealedName(2, 3) + lostSuffix + "-0123456789abcdef": {2, 3},
		"quarantine/" + sealed + "-at-48.bin":                                       seqs,
		"quarantine/next-0123456789abcdef":                                          seqs,
		"anything else":                                                             seqs,
	}
	damages := map[string]struct {
		file    func(b []byte) []byte // nil for no file
		lost    []uint64
		isFine  bool
		isEmpty bool
	}{
		"none":                  {func(b []byte) []byte { return b }, nil, true, false},
		"a bit of the second":   {func(b []byte) []byte { b[ends[1]+60] ^= 1; return b }, []uint64{2}, false, false},
		"the header":            {func(b []byte) []byte { b[10] ^= 1; return b }, nil, false, false},
		"the first and the end": {func(b []byte) []byte { b[ends[0]+60] ^= 1; return b[:len(b)-9] }, []uint64{1, 6}, false, false},
		"junk in the middle":    {func(b []byte) []byte { return slices.Insert(b, int(ends[3]), []byte("junk")...) }, nil, false, false},
		"frames in no order":    {func(b []byte) []byte { return slices.Concat(b[:ends[1]], b[ends[3]:], b[ends[1]:ends[3]]) }, nil, false, false},
		"a frame twice":         {func(b []byte) []byte { return slices.Concat(b, b[ends[2]:ends[3]]) }, nil, false, false},
		"everything":            {func(b []byte) []byte { clear(b); return b }, seqs, false, true},
		"an empty file":         {func([]byte) []byte { return nil }, seqs, false, true},
		"no file":               {nil, seqs, false, true},
	}
	for name, ownSeqs := range names {
		for damage, d := range damages {
			dir := memoryDir(t)
			at := filepath.Join(dir, "wal", name)
			isFile := strings.HasSuffix(name, ".bin")
			path := filepath.Join(at, segment.FileName)
			if isFile {
				path = at
			}
			if isFile && d.file == nil {
				continue // there is no file to export
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.MkdirAll(filepath.Dir(path), 0o700))
			must(os.WriteFile(filepath.Join(dir, "wal", identityName), logFile, 0o600))
			if d.file != nil {
				must(os.WriteFile(path, d.file(bytes.Clone(whole)), 0o600))
			}
			before := fingerprint(t, dir)
			var want []uint64
			for _, seq := range ownSeqs {
				if !slices.Contains(d.lost, seq) {
					want = append(want, seq)
				}
			}
			arguments := []string{at, path}
			if base := filepath.Base(name); strings.Contains(name, "/") || name != "anything else" {
				arguments = append(arguments, base)
			}
			if d.file == nil {
				arguments = slices.DeleteFunc(arguments, func(a string) bool { return a == path })
			}
			for _, argument := range arguments {
				what := fmt.Sprintf("%s with %s, as %s", name, damage, strings.TrimPrefix(argument, dir))
				got, r := exported(t, dir, argument)
				if !slices.Equal(got, want) {
					t.Errorf("%s: exported %v, want %v", what, got, want)
				}
				// Seqs of a name that are in no file are missing, even if the file is
				// undamaged.
				hasOthers := strings.Contains(name, unreadSuffix) || strings.Contains(name, lostSuffix)
				if fine := (d.isFine || hasOthers && damage == "frames in no order") && ownSeqs[len(ownSeqs)-1] != 4 && !strings.Contains(name, tailSuffix); r.OK() != fine {
					t.Errorf("%s: want OK %t, report %+v", what, r.OK(), r)
				}
				if uint64(len(got)) != r.Records {
					t.Errorf("%s: exported %d records, of %d", what, len(got), r.Records)
				}
				if givesRange := ownSeqs[0] != 1 || strings.Contains(name, sealed) && !isFile; givesRange && !r.OK() {
					for _, seq := range ownSeqs {
						if lost := slices.ContainsFunc(r.Lost, func(g SeqRange) bool { return g.First <= seq && seq <= g.Last }); lost == slices.Contains(got, seq) {
							t.Errorf("%s: %d is lost: %t, of %v", what, seq, lost, r.Lost)
						}
					}
				}
			}
			i, err := Inspect(dir)
			must(err)
			entries, err := i.Entries()
			must(err)
			for _, e := range entries {
				if e.Name != name {
					continue
				}
				r, err := i.Examine(e, nil)
				must(err)
				if _, same := exported(t, dir, name); !reflect.DeepEqual(r, same) {
					t.Errorf("%s with %s: examined %+v, exported %+v", name, damage, r, same)
				}
			}
			if fingerprint(t, dir) != before {
				t.Errorf("%s with %s: the export changed the directory", name, damage)
			}
		}
	}
}

func TestAMissingSegmentIsNotFound(t *testing.T) {
	dir, file := sealedDir(t, 1)
	for _, name := range []string{segment.SealedName(7, 9), "no/such/path"} {
		if _, e, err := Find(dir, name); err == nil {
			t.Errorf("%q is %+v", name, e)
		}
	}
	t.Chdir(filepath.Dir(file))
	for _, name := range []string{".", segment.FileName} { // as paths
		if seqs, r := exported(t, t.TempDir(), name); len(seqs) != 1 || !r.OK() {
			t.Errorf("%s: exported %v, %+v", name, seqs, r)
		}
	}
}

func TestASegmentIsFoundThroughALink(t *testing.T) {
	elsewhere, file := sealedDir(t, 3)
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(elsewhere, "wal"), filepath.Join(dir, "wal")); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(elsewhere, "wal", segment.SealedName(2, 3)) // the log does not follow it
	if err := os.Symlink(filepath.Dir(file), link); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]uint64{segment.SealedName(1, 3): {1, 2, 3}, segment.SealedName(2, 3): {2, 3}, link: {2, 3}} {
		if got, _ := exported(t, dir, name); !slices.Equal(got, want) {
			t.Errorf("%s: exported %v", name, got)
		}
	}
}

// A disk that returns other bytes at the next read must not end the export. These bytes
// must not be exported.
func TestExportContinuesWhenReadsDiffer(t *testing.T) {
	for name, c := range map[string]struct {
		from, to int // the first and last read of the second record that return changed bytes
		want     []uint64
	}{
		"once":             {2, 2, []uint64{1, 3, 2}},
		"for good":         {2, 1000, []uint64{1, 3}},
		"always":           {1, 1000, []uint64{1, 3}},
		"every other time": {-2, 1000, []uint64{1, 3}},
	} {
		dir, file := sealedDir(t, 3)
		at, reads := frameEnds(t, file)[1]+60, 0
		i, e, err := Find(dir, segment.SealedName(1, 3))
		if err != nil {
			t.Fatal(err)
		}
		i.disk.FS = errorfs.FS{FS: vfs.OS{}, ReadAt: func(f vfs.File, p []byte, off int64) (int, error) {
			n, err := f.ReadAt(p, off)
			if off <= at && off+int64(n) > at {
				reads++
				if reads >= c.from && reads <= c.to && (c.from > 0 || reads%2 == 0) {
					p[at-off] ^= 1
				}
			}
			return n, err
		}}
		var got []uint64
		r, err := i.Export(e, func(rec *Record) error {
			got = append(got, rec.Seq)
			if !bytes.Equal(rec.Usage, usage(int(rec.Seq-1))) {
				t.Errorf("%s: seq %d has the wrong usage %s", name, rec.Seq, rec.Usage)
			}
			return nil
		})
		if err != nil || !slices.Equal(got, c.want) || r.OK() != (len(c.want) == 3) {
			t.Errorf("%s: exported %v, %+v, %v", name, got, r, err)
		}
	}
}
