package segment

import (
	"bytes"
	"errors"
	"slices"
)

// collector is a scan in progress.
type collector struct {
	*Scan
	*scanner
	want   Wanted
	found  []extent
	copies []extent // duplicates of frames that are elsewhere in the file
}

// collectAll collects the valid frames, in the order of the file.
func (c *collector) collectAll() error {
	for c.pos < c.Size {
		length, prefixLen, err := c.length(c.pos)
		if err != nil {
			return err
		}
		if prefixLen > 0 {
			f, reason, err := c.frameAt(c.pos+int64(prefixLen), c.wanted)
			if err != nil {
				return err
			}
			if reason == nil {
				if f.to-f.from == length {
					f.entryStart = c.pos
				}
				c.collect(f)
				continue
			}
		}
		if err := c.resync(); err != nil {
			return err
		}
	}
	return nil
}

// resync continues at the next valid frame after pos, or at the end of the file.
func (c *collector) resync() error {
	first, err := c.bytes(c.pos, 1)
	if err != nil {
		return err
	}
	c.extendData(c.pos, first)
	for at := c.pos + 1; ; {
		if at = c.pages.NextData(at); at >= c.Size {
			break
		}
		window, err := c.bytes(at, windowSize)
		if err != nil {
			return err
		}
		i := bytes.Index(window, []byte(frameMagic))
		if i < 0 {
			c.extendData(at, window)
			if len(window) < windowSize {
				break
			}
			at += int64(len(window) - len(frameMagic) + 1)
			continue
		}
		c.extendData(at, window[:i+1])
		f, reason, err := c.frameAt(at+int64(i), c.wanted)
		if err != nil {
			return err
		}
		if reason == nil {
			c.collect(f)
			return nil
		}
		at += int64(i) + 1
	}
	c.pos = c.Size
	return nil
}

// extendData sets DataEnd to the offset after the last nonzero byte of b, which was read at
// off.
func (c *collector) extendData(off int64, b []byte) {
	if n := len(bytes.TrimRight(b, "\x00")); n > 0 {
		c.DataEnd = off + int64(n)
	}
}

func (c *collector) inRange(h frameHeader) bool {
	return h.firstSeq >= c.want.First && h.lastSeq() <= c.want.Last
}

func (c *collector) wanted(h frameHeader) bool {
	return c.inRange(h) || c.want.AllowOthers && (h.firstSeq > c.want.Last || h.lastSeq() < c.want.First)
}

// collect adds a frame to found. It extends the last extent if the frame continues that.
func (c *collector) collect(f frame) {
	c.pos, c.DataEnd = f.to, f.to
	e := f.extent()
	e.unwanted = !c.inRange(f.frameHeader)
	if n := len(c.found); n > 0 {
		before := &c.found[n-1]
		if e.entryStart < e.from && before.to == e.entryStart && before.last+1 == e.first && before.owner == e.owner && before.unwanted == e.unwanted {
			before.to, before.last = e.to, e.last
			return
		}
	}
	c.found = append(c.found, e)
}

func (f frame) extent() extent {
	return extent{entryStart: f.entryStart, from: f.from, to: f.to, first: f.firstSeq, last: f.lastSeq(), owner: owner{f.logID, f.run}}
}

// conclude determines which records the frames contain, and which bytes are damaged.
func (c *collector) conclude() error {
	c.identify()
	var ours, outside []extent
	for _, e := range c.found {
		switch {
		case e.owner != owner{c.Header.LogID, c.Header.Run}: // frames of another log, or left from an earlier use of the disk's blocks
		case e.unwanted:
			outside = append(outside, e)
		default:
			ours = append(ours, e)
		}
	}
	c.found = nil
	byOffset := slices.Clone(ours)
	ours, err := c.order(ours)
	if err != nil {
		return err
	}
	c.Misplaced = len(c.copies) > 0 || !slices.IsSortedFunc(byOffset, bySeq)
	c.FramesEnd = c.HeaderEnd
	for _, e := range ours {
		c.FramesEnd = max(c.FramesEnd, e.to)
		if n := len(c.Pieces); n == 0 || c.Pieces[n-1].Last+1 != e.first {
			c.Pieces = append(c.Pieces, Piece{SeqRange: SeqRange{First: e.first}})
		}
		p := &c.Pieces[len(c.Pieces)-1]
		p.Last = e.last
		p.extents = append(p.extents, e)
	}
	good := slices.Concat(ours, c.copies, outside)
	slices.SortFunc(good, func(a, b extent) int { return int(a.from - b.from) })
	at := c.HeaderEnd
	for _, e := range good {
		if e.entryStart > at {
			c.Damaged = append(c.Damaged, ByteRange{at, e.entryStart})
		}
		at = e.to
	}
	if at < c.Size {
		c.Damaged = append(c.Damaged, ByteRange{at, c.Size})
	}
	return nil
}

// identify determines the segment's log and run from its header and frames. Frames of the
// wanted log take precedence, then the owner with more records, then the header. The
// header alone is not trusted: if the disk wrote a sector to the wrong place, it is
// another segment's.
func (c *collector) identify() {
	records := map[owner]uint64{}
	for _, e := range c.found {
		records[e.owner] += e.last - e.first + 1
	}
	header := owner{c.Header.LogID, c.Header.Run}
	best := header
	for _, e := range c.found {
		ours, bestOurs := e.owner.logID == c.want.LogID, best.logID == c.want.LogID && records[best] > 0
		if ours == bestOurs && records[e.owner] > records[best] || ours && !bestOurs {
			best = e.owner
		}
	}
	if best == header {
		return
	}
	if c.HeaderEnd > 0 {
		c.Reason = errors.New("segment header is another segment's")
	}
	c.Header, c.HeaderEnd = Header{LogID: best.logID, Run: best.run}, 0
}
