package shipper

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// name is what a key tells of its object.
type name struct {
	node        string
	logID, run  uint64
	first, last uint64
	hour        int64  // since 1970, UTC, of the first record
	beside      bool   // other content than the object of the plain name
	sha8        uint32 // of one beside
}

const (
	dataPrefix = "dt="
	lostPrefix = ownDir + "/lost/"
	lostSuffix = ".json"
)

// partition is the folder of an hour, with its slash.
func partition(hour int64) string {
	return time.Unix(hour*3600, 0).UTC().Format("dt=2006-01-02/hour=15/")
}

func (n name) key() string {
	sha8 := ""
	if n.beside {
		sha8 = fmt.Sprintf("~%08x", n.sha8)
	}
	return partition(n.hour) + n.stem() + sha8 + objectSuffix
}

func (n name) stem() string {
	return fmt.Sprintf("%s-%016x-%020d-%020d-%016x", n.node, n.logID, n.first, n.last, n.run)
}

func (n name) lossKey() string { return lostPrefix + n.stem() + lostSuffix }

// parseKey reads the key of an object with lines. It accepts what key makes and
// nothing else.
func parseKey(key string) (n name, ok bool) {
	stem, ok := strings.CutSuffix(key, objectSuffix)
	const folder = len("dt=2006-01-02/hour=15/")
	if !ok || len(stem) < folder {
		return n, false
	}
	at, err := time.Parse("dt=2006-01-02/hour=15/", stem[:folder])
	if err != nil {
		return n, false
	}
	stem, sha8, beside := strings.Cut(stem[folder:], "~")
	if n, ok = parseStem(stem); !ok {
		return n, false
	}
	if n.beside = beside; beside {
		sum, err := strconv.ParseUint(sha8, 16, 32)
		if err != nil {
			return n, false
		}
		n.sha8 = uint32(sum)
	}
	n.hour = at.Unix() / 3600
	return n, n.key() == key
}

// parseLossKey reads the key of a loss note.
func parseLossKey(key string) (n name, ok bool) {
	stem, ok := strings.CutPrefix(key, lostPrefix)
	if !ok {
		return n, false
	}
	if stem, ok = strings.CutSuffix(stem, lostSuffix); !ok {
		return n, false
	}
	if n, ok = parseStem(stem); !ok {
		return n, false
	}
	return n, n.stem() == stem
}

// parseStem reads node-logID-first-last-run from its end: a node may hold dashes.
func parseStem(stem string) (n name, ok bool) {
	const sizes = len("-0123456789abcdef-01234567890123456789-01234567890123456789-0123456789abcdef")
	at := len(stem) - sizes
	if at < 1 {
		return n, false
	}
	n.node = stem[:at]
	part := func(from, size, base int) (v uint64) {
		from += at
		v, err := strconv.ParseUint(stem[from+1:from+1+size], base, 64)
		ok = ok && err == nil && stem[from] == '-'
		return v
	}
	ok = true
	n.logID, n.first, n.last, n.run = part(0, 16, 16), part(17, 20, 10), part(38, 20, 10), part(59, 16, 16)
	return n, ok && n.first >= 1 && n.first <= n.last
}
