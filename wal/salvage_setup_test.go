package wal

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"collectord/wal/segment"
)

// sealedDir returns a data directory with one sealed segment of n records, one per
// frame, and the path of its file.
func sealedDir(t *testing.T, n int) (dir, file string) {
	t.Helper()
	dir = memoryDir(t)
	l := openLog(t, dir, Options{Node: "edge-1"})
	for i := range n {
		mustAppend(t, l, Record{Usage: usage(i)})
	}
	mustClose(t, l)
	return dir, filepath.Join(dir, "wal", segment.SealedName(1, uint64(n)), segment.FileName)
}

// salvageAll salvages every segment that can't be read completely, as the shipper does.
func salvageAll(t *testing.T, l *Log) {
	t.Helper()
	segments, _ := l.Sealed()
	for _, s := range segments {
		var damage *DamageError
		for _, err := range s.Records() {
			if err != nil && !errors.As(err, &damage) {
				t.Fatal(err)
			}
		}
		if damage != nil {
			if changed, err := l.Salvage(s); err != nil || !changed {
				t.Fatalf("salvage %s: changed %v, %v", s, changed, err)
			}
		}
	}
}

// usagesOf returns the numbers of the usages in the sealed segments. All must be
// readable.
func usagesOf(t *testing.T, l *Log) (got []int) {
	t.Helper()
	segments, _ := l.Sealed()
	for _, s := range segments {
		n := 0
		for r, err := range s.Records() {
			if err != nil {
				t.Fatalf("segment %s: %v", s, err)
			}
			if !bytes.Equal(r.Usage, usage(int(r.Seq-1))) {
				t.Fatalf("seq %d has the wrong usage %s", r.Seq, r.Usage)
			}
			got = append(got, int(r.Seq-1))
			n++
		}
		if n != s.Count() {
			t.Fatalf("segment %s has %d records", s, n)
		}
	}
	return got
}

// checkLosses asserts that the loss notes cover exactly these usages.
func checkLosses(t *testing.T, l *Log, lost []int) {
	t.Helper()
	notes, err := l.Losses()
	if err != nil {
		t.Fatal(err)
	}
	var noted []int
	for _, n := range notes {
		if n.Reason != LossDamaged || n.Node != "edge-1" || n.LogID != l.logID || time.Since(n.At) > time.Hour {
			t.Errorf("note %+v", n)
		}
		for seq := n.FirstSeq; seq <= n.LastSeq; seq++ {
			noted = append(noted, int(seq-1))
		}
	}
	if !slices.Equal(noted, lost) {
		t.Fatalf("loss notes cover %v, want %v", noted, lost)
	}
}
