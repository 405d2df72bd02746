package wal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// crashedDir returns a data directory as kill -9 would leave it after n appends of
// one record each: an active segment that was never sealed.
func crashedDir(t *testing.T, n int) (dir, file string) {
	t.Helper()
	l := openLog(t, t.TempDir(), Options{SegmentSize: 4 << 10})
	for i := range n {
		mustAppend(t, l, Record{Usage: usage(i)})
	}
	dir = t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "wal"), os.DirFS(l.dir)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	return dir, filepath.Join(dir, "wal", segment.ActiveName(1), segment.FileName)
}

// checkReopened opens dir and asserts that it has the usages 0 to n-1, accepts another,
// and returns all of them after another start.
func checkReopened(t *testing.T, dir string, n int) {
	t.Helper()
	l := openLog(t, dir, Options{SegmentSize: 4 << 10})
	got := readAll(t, l)
	if len(got) != n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
	for i, r := range got {
		if !bytes.Equal(r.Usage, usage(i)) || r.Seq != uint64(i+1) {
			t.Fatalf("record %d has seq %d: %s", i, r.Seq, r.Usage)
		}
	}
	if g := checkLedger(t, l); g.Recovered != uint64(n) {
		t.Fatalf("recovered %d, want %d", g.Recovered, n)
	}
	mustAppend(t, l, Record{Usage: usage(n)})
	mustClose(t, l)
	l = openLog(t, dir, Options{SegmentSize: 4 << 10})
	if got := readAll(t, l); len(got) != n+1 || !bytes.Equal(got[n].Usage, usage(n)) {
		t.Fatalf("%d records after one more, want %d", len(got), n+1)
	}
	mustClose(t, l)
}

// frameEnds returns the end of the header and of each frame. Zeros may follow.
func frameEnds(t *testing.T, path string) (ends []int64) {
	t.Helper()
	header, err := segment.ReadHeader(vfs.OSDisk(), path)
	if err != nil {
		t.Fatal(err)
	}
	scan, err := segment.All(header.LogID).Scan(vfs.OSDisk(), path)
	if err != nil {
		t.Fatal(err)
	}
	ends = append(ends, scan.HeaderEnd)
	for seq := scan.Pieces[0].First; seq < scan.Last(); seq++ { // one record per frame
		at, err := scan.OffsetAbove(seq)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, at)
	}
	return append(ends, scan.FramesEnd)
}
