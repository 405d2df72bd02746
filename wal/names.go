package wal

import (
	"strings"

	"collectord/wal/segment"
)

// Names of directories below the log directory. The name of a segment is its
// state; each change is one rename.
const (
	nextName       = "next"
	quarantineName = "quarantine"
)

// parseName reads a segment's name. last is 0 for one that is not sealed. ending is
// what follows the range: what the disk did not give has one, and so has a
// segment that is being removed or renamed.
func parseName(name string) (first, last uint64, ending string, ok bool) {
	first, last, ending, ok = segment.ParseName(name)
	state, unread := cutUnread(ending)
	switch state {
	case "", goneSuffix, evictedSuffix, damagedSuffix:
	case lostSuffix, movingSuffix:
		ok = ok && !unread
	default:
		ok = false
	}
	return first, last, ending, ok && (last > 0 || !unread)
}

// cutUnread cuts off the beginning of an ending that says that the disk did not
// give all of the file.
func cutUnread(ending string) (rest string, unread bool) {
	for _, e := range []string{unreadSuffix, tailSuffix} {
		if rest, unread = strings.CutPrefix(ending, e); unread {
			return rest, true
		}
	}
	return ending, false
}
