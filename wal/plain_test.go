package wal_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"collectord/wal"
)

// TestAFileInPlaceOfASegmentIsNotedAndPutAside: such a file counts as a segment without
// its file.
func TestAFileInPlaceOfASegmentIsNotedAndPutAside(t *testing.T) {
	t.Parallel()
	file := func(path string) error { return os.WriteFile(path, []byte(strayText), 0o600) }
	fifo := func(path string) error { return unix.Mkfifo(path, 0o600) }
	sealed := "00000000000000000003-00000000000000000004"
	for _, c := range []struct {
		name, place, as string
		make            func(string) error
		lost            []int // usages; their seqs are one higher
	}{
		{"a file", sealed, sealed, file, []int{2, 3}},
		{"a FIFO", sealed, sealed, fifo, []int{2, 3}},
		{"a file, unread", sealed, sealed + ".unread", file, []int{2, 3}},
		{"a file, unread, of which a part was saved", sealed, "00000000000000000001-00000000000000000004.unread", file, []int{2, 3}},
		{"a file, evicted", sealed, sealed + ".evicted", file, []int{2, 3}},
		{"a file, damaged", sealed, sealed + ".damaged", file, []int{2, 3}},
		{"a file with the name of a removed segment", sealed, sealed + ".gone", file, nil},
		{"a file, moving", sealed, sealed + ".moving", file, []int{2, 3}},
		{"a file, renaming", sealed, sealed + ".renaming", file, []int{2, 3}},
		{"a file beside the segment", "", sealed + ".unread", file, nil},
		{"a file named like a segment behind the last", "", "00000000000000000008-00000000000000000009", file, nil},
		{"a file named like an open segment", "", "00000000000000000006", file, nil},
		{"a file of no segment, gone", "", "00000000000000000008-00000000000000000009.gone", file, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(scratchDir(t), "data")
			makeOpenLog(t, data)
			in := func(name string) string { return filepath.Join(data, "wal", name) }
			var err error
			if c.place != "" {
				err = os.RemoveAll(in(c.place))
			}
			if err = errors.Join(err, c.make(in(c.as))); err != nil {
				t.Fatal(err)
			}
			o := wal.Options{SegmentSize: 4 << 10, MachineID: "/nonexistent"}
			l, err := wal.Open(data, o)
			if err != nil {
				t.Fatal(err)
			}
			aside := l.Stats().PutAside
			shipped := shipAll(t, l)
			for n := range 7 {
				if c.place != "" && (n == 2 || n == 3) == slices.Contains(shipped, n) {
					t.Errorf("shipped %v", shipped)
				}
			}
			notes, err := l.Losses()
			if err != nil {
				t.Fatal(err)
			}
			var noted []int
			for _, n := range notes {
				for seq := n.FirstSeq; seq <= n.LastSeq; seq++ {
					noted = append(noted, int(seq)-1)
				}
			}
			if fmt.Sprint(noted) != fmt.Sprint(c.lost) {
				t.Errorf("noted as lost: usages %v, want %v", noted, c.lost)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			there := quarantined(t, data)
			if !slices.ContainsFunc(there, func(name string) bool { return strings.HasPrefix(name, strings.Split(c.as, ".")[0]) }) {
				t.Errorf("quarantine contains %q", there)
			}
			if exists(in(c.as)) {
				t.Error("the entry is still in its place")
			}
			if l, err = wal.Open(data, o); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if now := l.Stats().PutAside; now < 1 {
				t.Errorf("%d entries are put aside, at the first start %d", now, aside)
			}
			if again := shipAll(t, l); len(again) > 0 {
				t.Errorf("the second start ships %v", again)
			}
		})
	}
}
