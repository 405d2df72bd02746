package wal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/segment"
)

// TestASegmentOverwrittenWithAnotherIsNoted writes the only sector of a segment over
// that of another. It does so once for each set of
// other segments that may have been shipped before.
func TestASegmentOverwrittenWithAnotherIsNoted(t *testing.T) {
	const segments, each = 5, 2
	whole := memoryDir(t)
	l := openLog(t, whole, Options{SegmentSize: 4 << 10})
	for i := range segments * each {
		if mustAppend(t, l, Record{Usage: usage(i)}); i%each == each-1 {
			mustSeal(t, l)
		}
	}
	sealed, _ := l.Sealed()
	mustClose(t, l)
	step, n := max(1, *startStep/3), 0
	for victim := range segments {
		for other := range segments {
			if other == victim {
				continue
			}
			for removed := range 1 << segments {
				if removed&(1<<victim) != 0 {
					continue
				}
				for _, frames := range []int{each, 1, 0} {
					if n++; n%step != 0 {
						continue
					}
					t.Run(fmt.Sprintf("%d over %d, removed %05b, %d frames", other, victim, removed, frames), func(t *testing.T) {
						t.Parallel()
						dir := memoryDir(t)
						if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
							t.Fatal(err)
						}
						file := func(i int) string {
							return filepath.Join(dir, "wal", filepath.Base(sealed[i].dir), segment.FileName)
						}
						content, err := os.ReadFile(file(other))
						if err != nil {
							t.Fatal(err)
						}
						ends := frameEnds(t, file(other))
						size := ends[frames]
						if frames == 0 { // the sector is too small for the first frame
							size = ends[1] - 1
						}
						if err := os.WriteFile(file(victim), content[:size], 0o640); err != nil {
							t.Fatal(err)
						}
						if active := filepath.Join(dir, "wal", segment.ActiveName(segments*each+1)); removed%4 == 0 {
							if err := os.Rename(active, active+goneSuffix); err != nil { // as Close leaves it after a failure
								t.Fatal(err)
							}
						}
						var want, lost []uint64
						for i := range segments {
							if removed&(1<<i) != 0 {
								if err := os.RemoveAll(filepath.Dir(file(i))); err != nil {
									t.Fatal(err)
								}
							}
							for seq := uint64(i*each + 1); seq <= uint64(i*each+each); seq++ {
								if i == victim {
									lost = append(lost, seq)
								} else if removed&(1<<i) == 0 {
									want = append(want, seq)
								}
							}
						}
						{
							l := openLog(t, dir, Options{SegmentSize: 4 << 10})
							if got := shipAll(t, l); !slices.Equal(got, want) {
								t.Errorf("shipped %v, want %v", got, want)
							}
							if noted, _ := notedSeqs(t, l); !slices.Equal(noted, lost) {
								t.Errorf("noted as lost %v, want %v", noted, lost)
							}
							checkLedger(t, l)
							mustAppend(t, l, Record{Usage: usage(segments * each)})
							mustSeal(t, l)
							if s, _ := l.Sealed(); len(s) != 1 || s[0].first <= segments*each {
								t.Errorf("the next usage is in %v", s)
							}
							mustClose(t, l)
						}
					})
				}
			}
		}
	}
}
