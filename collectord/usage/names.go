package usage

import (
	"bytes"
	"hash/maphash"
	"unicode/utf8"
)

// nameSet detects duplicate names in an object with many names or with an escaped name.
// It contains only the names of open objects, so the length of the text bounds its
// size. Its memory is reused for the next text.
type nameSet struct {
	seed  maphash.Seed // random, so that a client can't choose names that collide
	names []namePos    // a stack: the names of the innermost object are last
	slots []uint32     // a hash table with linear probing: index into names + 1, or 0
	bases [maxDepth]uint32
}

// namePos is the position of a name in the text, after its opening quote.
type namePos struct{ hash, at uint32 }

// Bounds on the memory of a set.
const (
	initialSlots = 64
	maxKeptNames = 16 << 10 // enough for the largest datagram; a larger set is discarded after use
)

// add reports whether the name text[from:to] is new among the names from index base on,
// and adds it if so.
func (n *nameSet) add(text []byte, from, to int, base uint32) bool {
	if len(n.slots) <= 2*len(n.names) {
		n.grow()
	}
	hash := n.hash(text[from:to])
	at := n.slot(hash)
	for ; n.slots[at] != 0; at = n.nextSlot(at) {
		if i := n.slots[at] - 1; i >= base && n.names[i].hash == hash && sameName(text[n.names[i].at:], text[from:]) {
			return false
		}
	}
	n.names = append(n.names, namePos{hash, uint32(from)})
	n.slots[at] = uint32(len(n.names))
	return true
}

// truncate removes all but the first count names, the last one first. Removal in
// reverse order keeps linear probing correct: no other name was moved past a slot that
// is freed.
func (n *nameSet) truncate(count int) {
	for ; len(n.names) > count; n.names = n.names[:len(n.names)-1] {
		at := n.slot(n.names[len(n.names)-1].hash)
		for n.slots[at] != uint32(len(n.names)) {
			at = n.nextSlot(at)
		}
		n.slots[at] = 0
	}
}

func (n *nameSet) grow() {
	n.slots = make([]uint32, max(initialSlots, 2*len(n.slots)))
	for i, name := range n.names {
		at := n.slot(name.hash)
		for n.slots[at] != 0 {
			at = n.nextSlot(at)
		}
		n.slots[at] = uint32(i + 1)
	}
}

// slot returns the first slot to probe for a hash; nextSlot returns the slot to probe next.
func (n *nameSet) slot(hash uint32) int { return int(hash) & (len(n.slots) - 1) }
func (n *nameSet) nextSlot(at int) int  { return (at + 1) & (len(n.slots) - 1) }

// hash returns the same value for a name with and without escapes.
func (n *nameSet) hash(name []byte) uint32 {
	escape := bytes.IndexByte(name, '\\')
	if escape < 0 {
		return uint32(maphash.Bytes(n.seed, name))
	}
	var h maphash.Hash
	h.SetSeed(n.seed)
	for escape >= 0 {
		_, _ = h.Write(name[:escape]) // never fails
		r, size := decodeChar(name[escape:])
		var utf [utf8.UTFMax]byte
		_, _ = h.Write(utf[:utf8.EncodeRune(utf[:], r)])
		name = name[escape+size:]
		escape = bytes.IndexByte(name, '\\')
	}
	_, _ = h.Write(name)
	return uint32(h.Sum64())
}

// sameName reports whether two strings of valid JSON have the same decoded text. Both
// slices must extend at least to the closing quote.
func sameName(a, b []byte) bool {
	for a[0] != '"' && b[0] != '"' {
		r, n := decodeChar(a)
		s, m := decodeChar(b)
		if r != s {
			return false
		}
		a, b = a[n:], b[m:]
	}
	return a[0] == b[0]
}

// decodeChar decodes the first character of a string of valid JSON, and returns its
// encoded length in bytes.
func decodeChar(b []byte) (r rune, size int) {
	switch {
	case b[0] != '\\':
		return utf8.DecodeRune(b)
	case b[1] != 'u':
		return rune(unescaped[b[1]]), 2
	}
	r, _ = hex4(b[2:])
	if r < 0xd800 || r > 0xdfff {
		return r, 6
	}
	low, _ := hex4(b[8:])
	return 0x10000 + (r-0xd800)<<10 + low - 0xdc00, 12
}

// unescaped maps the letter after a backslash to the character it represents.
var unescaped = [256]byte{ //nolint:gochecknoglobals // a constant table
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}
