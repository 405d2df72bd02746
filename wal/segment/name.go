package segment

import (
	"fmt"
	"strconv"
	"strings"
)

// FileName is the name of the only file in a segment's directory. The log library always
// gives its first file this name.
const FileName = "00000000000000000001"

// MaxSeq is above every seq. The seqs in a segment's name are below maxNamed, so that
// higher seqs always remain. At a million records a second, a log reaches maxNamed after
// more than a hundred thousand years.
const (
	MaxSeq   = 1 << 63
	maxNamed = 1 << 62
)

// SeqRange is a range of seqs, including both ends.
type SeqRange struct{ First, Last uint64 }

// ActiveName returns the name of an unsealed segment.
func ActiveName(first uint64) string { return fmt.Sprintf("%020d", first) }

// SealedName returns the name of a sealed segment.
func SealedName(first, last uint64) string { return fmt.Sprintf("%020d-%020d", first, last) }

// ParseName parses a segment's name. last is 0 for an unsealed segment. ending is the
// part from the first dot on, and is not checked.
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
