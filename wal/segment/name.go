package segment

import (
	"fmt"
	"strconv"
	"strings"
)

// FileName is what the underlying log calls the only file in a segment's directory.
const FileName = "00000000000000000001"

// MaxSeq is above every seq there is. Names beyond maxNamed are no segment's: a
// million records a second would not get there in a hundred thousand years, and
// there is room to count on from any other name.
const (
	MaxSeq   = 1 << 63
	maxNamed = 1 << 62
)

// SeqRange is a range of records.
type SeqRange struct{ First, Last uint64 }

// ActiveName names a segment that is not sealed.
func ActiveName(first uint64) string { return fmt.Sprintf("%020d", first) }

// SealedName names a sealed segment.
func SealedName(first, last uint64) string { return fmt.Sprintf("%020d-%020d", first, last) }

// ParseName reads a segment's name. last is 0 for one that is not sealed. ending is
// what follows the range, from its first dot on.
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
