package wal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
)

// TestExchangedNamesBesideAnUnreadablePageHideNoLoss exchanges the names of two or
// three segments. The disk can't read one of them, until a restart or for good.
func TestExchangedNamesBesideAnUnreadablePageHideNoLoss(t *testing.T) {
	const segments, each = 4, 60 // records, on two pages
	dir := memoryDir(t)
	l := openLog(t, dir, Options{Node: "edge-1"})
	for i := range segments * each {
		if mustAppend(t, l, Record{Usage: usage(i)}); i%each == each-1 {
			mustSeal(t, l)
		}
	}
	sealed, _ := l.Sealed()
	mustClose(t, l)
	for _, moves := range [][]int{{0, 1}, {2, 1}, {2, 3}, {0, 1, 2}, {3, 2, 1}} { // each segment takes the name of the next
		for n, bad := range moves {
			for _, pages := range [][]int64{nil, {0}, {1}} {
				stays := (n+len(pages))%2 == 0
				t.Run(fmt.Sprintf("%v, pages %v of %d, unreadable for good %t", moves, pages, bad, stays), func(t *testing.T) {
					t.Parallel()
					copied := memoryDir(t)
					copyDir(t, dir, copied)
					in := func(i int) string { return filepath.Join(copied, "wal", filepath.Base(sealed[i].dir)) }
					file := filepath.Join(in(bad), segment.FileName)
					var hit []uint64
					if ends := frameEnds(t, file); pages != nil {
						hit = seqsOnPages(ends, pages...)
					} else {
						hit = seqsTo(each)
					}
					for i := range hit {
						hit[i] += uint64(bad * each)
					}
					disk := &badDisk{}
					disk.breakPages(t, file, pages...)
					for _, i := range moves {
						if err := os.Rename(in(i), in(i)+"x"); err != nil {
							t.Fatal(err)
						}
					}
					for n, i := range moves {
						if err := os.Rename(in(i)+"x", in(moves[(n+1)%len(moves)])); err != nil {
							t.Fatal(err)
						}
					}
					o := Options{Node: "edge-1"}.WithReads(disk.read)
					l := openLog(t, copied, o)
					if got := shipAll(t, l); !slices.Equal(got, without(seqsTo(segments*each), hit)) {
						t.Errorf("shipped %v, without %v", got, hit)
					}
					if noted, _ := notedSeqs(t, l); len(noted) > 0 {
						t.Errorf("noted as lost before a restart: %v", noted)
					}
					if got := seqsOfRanges(l.Unread()); !slices.Equal(got, hit) {
						t.Errorf("unread %v, want %v", got, hit)
					}
					mustClose(t, l)
					want, lost := hit, []uint64(nil)
					if stays {
						want, lost = nil, hit
					} else {
						disk.repair()
					}
					l = openLog(t, copied, o)
					if got := shipAll(t, l); !slices.Equal(got, want) {
						t.Errorf("shipped after a restart %v, want %v", got, want)
					}
					if noted, _ := notedSeqs(t, l); !slices.Equal(noted, lost) {
						t.Errorf("noted as lost %v, want %v", noted, lost)
					}
				})
			}
		}
	}
}
