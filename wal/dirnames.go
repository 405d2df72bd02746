package wal

import (
	"strings"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// Names of directories below the log directory. A segment's name is its state; one
// rename changes its state.
const (
	nextName       = "next"
	quarantineName = "quarantine"
)

// parseName parses a segment's name. ok is false for any other name, and last is 0 for
// an unsealed segment. ending is the text behind the seqs: .unread, .tail, .renaming,
// .moving, the ending of a removal, or a combination of these.
func parseName(name string) (first, last uint64, ending string, ok bool) {
	first, last, ending, ok = segment.ParseName(name)
	state, unread := cutUnread(ending)
	switch state {
	case "", goneSuffix, evictedSuffix, damagedSuffix:
	case lostSuffix, renamingSuffix, vfs.MovingSuffix:
		ok = ok && !unread
	default:
		ok = false
	}
	return first, last, ending, ok && (last > 0 || !unread)
}

// isBetweenNames reports whether a segment with that ending was being moved from one
// name to another.
func isBetweenNames(ending string) bool {
	return ending == renamingSuffix || ending == vfs.MovingSuffix
}

// cutUnread cuts .unread or .tail off the beginning of an ending. They mean that the
// disk could not read all of the file.
func cutUnread(ending string) (rest string, unread bool) {
	for _, e := range []string{unreadSuffix, tailSuffix} {
		if rest, unread = strings.CutPrefix(ending, e); unread {
			return rest, true
		}
	}
	return ending, false
}
