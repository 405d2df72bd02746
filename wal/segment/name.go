package segment

import (
	"fmt"
	"strconv"
	"strings"
)

// FileName is the name of the only file in a segment's directory: the log library names
// its first file so.
const FileName = "00000000000000000001"

// MaxSeq is above every seq. Names with a seq of maxNamed or more are no segment's: a
// million records a second would not get there in a hundred thousand years, and above
// any other name there are seqs left.
const (
	MaxSeq   = 1 << 63
	maxNamed = 1 << 62
)

// SeqRange is a range of seqs, both ends included.
type SeqRange struct{ First, Last uint64 }

// ActiveName is the name of an unsealed segment.
func ActiveName(first uint64) string { return fmt.Sprintf("%020d", first) }

// SealedName is the name of a sealed segment.
func SealedName(first, last uint64) string { return fmt.Sprintf("%020d-%020d", first, last) }

// ParseName reads a segment's name. last is 0 for an unsealed one. ending is what
// follows the seqs, from the first dot on; it is not checked.
func ParseName(name string) (first, last uint64, ending string, ok bool) {
	name, rest, dotted := strings.Cut(name, ".")
	if dotted {
		ending = "." + rest
	}
	a, b, sealed := strings.Cut(name, "-")
	first, ok = parseSeq(a)
	ok = ok && first > 0
	if !sealed {
		return first, 0, ending, ok
	}
	last, okLast := parseSeq(b)
	return first, last, ending, ok && okLast && last >= first
}

func parseSeq(s string) (uint64, bool) {
	if len(s) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n < maxNamed
}
