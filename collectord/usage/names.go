package usage

import (
	"bytes"
	"hash/maphash"
	"unicode/utf8"
)

// nameSet finds a name that an object holds twice, where the object has many names or
// one that is written with escapes. It holds the names of open objects only, so its
// size follows from the text, and keeps its memory for the next text.
type nameSet struct {
	seed  maphash.Seed // drawn at random: nobody can choose names that hash alike
	names []nameAt     // a stack: those of the innermost object are last
	slots []uint32     // a hash table with linear probing: index into names + 1, or 0
	bases [maxDepth]uint32
}

// nameAt is where a name begins in the text, behind its quote.
type nameAt struct{ hash, at uint32 }

// Bounds on the memory of a set.
const (
	firstSlots = 64
	keptNames  = 16 << 10 // enough for the largest datagram; what is larger is not kept
)

// add reports whether the name text[from:to] is new among those behind base, and if
// so remembers it.
func (n *nameSet) add(text []byte, from, to int, base uint32) bool {
	if len(n.slots) <= 2*len(n.names) {
		n.grow()
	}
	hash := n.hash(text[from:to])
	at := n.slot(hash)
	for ; n.slots[at] != 0; at = n.after(at) {
		if i := n.slots[at] - 1; i >= base && n.names[i].hash == hash && sameName(text[n.names[i].at:], text[from:]) {
			return false
		}
	}
	n.names = append(n.names, nameAt{hash, uint32(from)})
	n.slots[at] = uint32(len(n.names))
	return true
}

// truncate forgets all but the first count names, the last one first: a slot that is
// freed in this order is one that no other name was moved on from.
func (n *nameSet) truncate(count int) {
	for ; len(n.names) > count; n.names = n.names[:len(n.names)-1] {
		at := n.slot(n.names[len(n.names)-1].hash)
		for n.slots[at] != uint32(len(n.names)) {
			at = n.after(at)
		}
		n.slots[at] = 0
	}
}

// grow doubles the table.
func (n *nameSet) grow() {
	n.slots = make([]uint32, max(firstSlots, 2*len(n.slots)))
	for i, name := range n.names {
		at := n.slot(name.hash)
		for n.slots[at] != 0 {
			at = n.after(at)
		}
		n.slots[at] = uint32(i + 1)
	}
}

// slot returns where a hash is looked for first, and after where next.
func (n *nameSet) slot(hash uint32) int { return int(hash) & (len(n.slots) - 1) }
func (n *nameSet) after(at int) int     { return (at + 1) & (len(n.slots) - 1) }

// hash returns the same for a name however it is written.
func (n *nameSet) hash(name []byte) uint32 {
	escape := bytes.IndexByte(name, '\\')
	if escape < 0 {
		return uint32(maphash.Bytes(n.seed, name))
	}
	var h maphash.Hash
	h.SetSeed(n.seed)
	for escape >= 0 {
		_, _ = h.Write(name[:escape]) // never fails
		r, size := character(name[escape:])
		var utf [utf8.UTFMax]byte
		_, _ = h.Write(utf[:utf8.EncodeRune(utf[:], r)])
		name = name[escape+size:]
		escape = bytes.IndexByte(name, '\\')
	}
	_, _ = h.Write(name)
	return uint32(h.Sum64())
}

// sameName reports whether two strings of valid JSON stand for the same text. Both go
// on to their closing quotes, at least.
func sameName(a, b []byte) bool {
	for a[0] != '"' && b[0] != '"' {
		r, n := character(a)
		s, m := character(b)
		if r != s {
			return false
		}
		a, b = a[n:], b[m:]
	}
	return a[0] == b[0]
}

// character returns the first character of a string of valid JSON and how many bytes
// it is written with.
func character(b []byte) (r rune, size int) {
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

// unescaped is what the letter behind a backslash stands for.
var unescaped = [256]byte{ //nolint:gochecknoglobals // a constant table
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}
