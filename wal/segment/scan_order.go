package segment

import (
	"bytes"
	"cmp"
	"slices"
)

// A disk can write a sector to the wrong place, or return an earlier content of a sector.
// So the seqs of a frame determine its place, and its offset does not. Of frames with
// overlapping seqs:
//
//   - equal frames are copies: one of them is kept;
//   - of different frames, the scan keeps the one with more neighbours in the file whose
//     seqs continue its own;
//   - if two have equally many, both count as damage. Leaving both to an operator is
//     better than shipping the wrong one.

func bySeq(a, b extent) int {
	return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last), cmp.Compare(a.from, b.from))
}

func (e extent) overlaps(o extent) bool { return e.first <= o.last && o.first <= e.last }

// order sorts extents by seq and resolves overlaps. Each seq is in at most one extent of
// the result.
func (c *collector) order(extents []extent) (ordered []extent, err error) {
	slices.SortFunc(extents, bySeq)
	disjoint := true
	if err := eachCluster(extents, func(cluster []extent) error {
		if len(cluster) == 1 {
			ordered = append(ordered, cluster...)
			return nil
		}
		disjoint = false
		parts, err := c.splitOverlapping(cluster)
		ordered = append(ordered, parts...)
		return err
	}); err != nil || disjoint {
		return ordered, err
	}
	slices.SortFunc(ordered, bySeq)
	return c.chooseFrames(ordered)
}

// eachCluster calls each for every group of overlapping extents; a group can be a single
// extent. extents must be sorted by seq.
func eachCluster(extents []extent, each func([]extent) error) error {
	for i := 0; i < len(extents); {
		n, last := i+1, extents[i].last
		for ; n < len(extents) && extents[n].first <= last; n++ {
			last = max(last, extents[n].last)
		}
		if err := each(extents[i:n]); err != nil {
			return err
		}
		i = n
	}
	return nil
}

// splitOverlapping divides overlapping extents: each frame that overlaps another extent
// becomes an extent of its own.
func (c *collector) splitOverlapping(cluster []extent) (parts []extent, err error) {
	for i, e := range cluster {
		continues := false // whether the next frame continues the last part
		err := c.eachFrame(e, func(f frame) error {
			one := f.extent()
			for n, other := range cluster {
				if n != i && other.overlaps(one) {
					continues = false
					parts = append(parts, one)
					return nil
				}
			}
			if continues {
				last := &parts[len(parts)-1]
				last.to, last.last = one.to, one.last
				return nil
			}
			continues = true
			parts = append(parts, one)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// candidate is a frame that overlaps others. adjacent is the number of its two
// neighbours in the file whose seqs are next to its own.
type candidate struct {
	extent
	adjacent int
}

// chooseFrames decides between frames with overlapping seqs.
func (c *collector) chooseFrames(extents []extent) (chosen []extent, err error) {
	ends, starts := map[int64]uint64{c.HeaderEnd: c.want.First - 1}, map[int64]uint64{}
	for _, e := range extents {
		ends[e.to], starts[e.entryStart] = e.last, e.first
	}
	err = eachCluster(extents, func(cluster []extent) error {
		if len(cluster) == 1 {
			chosen = append(chosen, cluster...)
			return nil
		}
		var distinct []candidate
		for _, e := range cluster {
			one := candidate{extent: e}
			if last, ok := ends[e.entryStart]; ok && e.entryStart < e.from && last == e.first-1 {
				one.adjacent++
			}
			if first, ok := starts[e.to]; ok && first == e.last+1 {
				one.adjacent++
			}
			if distinct, err = c.addDistinct(distinct, one); err != nil {
				return err
			}
		}
		for _, c := range distinct {
			if !slices.ContainsFunc(distinct, func(o candidate) bool {
				return o.extent != c.extent && o.overlaps(c.extent) && o.adjacent >= c.adjacent
			}) {
				chosen = append(chosen, c.extent)
			}
		}
		return nil
	})
	return chosen, err
}

// addDistinct adds one to frames unless frames contains an equal frame. Of two equal
// frames it keeps the one with more adjacent neighbours.
func (c *collector) addDistinct(frames []candidate, one candidate) ([]candidate, error) {
	for i, f := range frames {
		if f.first != one.first || f.last != one.last || f.to-f.from != one.to-one.from {
			continue
		}
		same, err := c.sameBytes(f.extent, one.extent)
		if err != nil {
			return nil, err
		}
		if same {
			if one.adjacent > f.adjacent {
				frames[i], one = one, f
			}
			c.copies = append(c.copies, one.extent)
			return frames, nil
		}
	}
	return append(frames, one), nil
}

// sameBytes reports whether two frames of the same size have the same bytes.
func (c *collector) sameBytes(a, b extent) (bool, error) {
	var left, right [4096]byte
	for at := int64(0); at < a.to-a.from; at += int64(len(left)) {
		n := min(int64(len(left)), a.to-a.from-at)
		if _, err := c.pages.ReadAt(left[:n], a.from+at); err != nil {
			return false, err
		}
		if _, err := c.pages.ReadAt(right[:n], b.from+at); err != nil {
			return false, err
		}
		if !bytes.Equal(left[:n], right[:n]) {
			return false, nil
		}
	}
	return true, nil
}
