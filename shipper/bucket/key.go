package bucket

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// This file makes and parses every key of a destination, and every part of one:
//
//	dt=2026-11-23/hour=08/<node>-<log id>-<first seq>-<last seq>-<run>.ndjson.zst           an object
//	dt=2026-11-23/hour=08/<node>-<log id>-<first seq>-<last seq>-<run>~<sha8>.ndjson.zst    one beside it
//	_collectord/lost/<node>-<log id>-<first seq>-<last seq>-<run>.json                      a loss note
//	_collectord/nodes/<node>-<log id>.json                                                  a heartbeat
//	_collectord/conditional-put.json                                                        the probe
//	_collectord/wrong-<checksum>.json                                                       left in a storage that does not verify this checksum
//	_collectord/tmp/                                                                        temporary files of a folder
const (
	// DataPrefix begins, and Suffix ends, the key of every object with lines.
	DataPrefix = "dt="
	Suffix     = ".ndjson.zst"
	// LossPrefix begins the key of every loss note.
	LossPrefix = ownDir + "/lost/"
	// HeartbeatPrefix begins the key of every heartbeat.
	HeartbeatPrefix = ownDir + "/nodes/"

	ownDir          = "_collectord" // no reader's glob matches it
	jsonSuffix      = ".json"
	probeKey        = ownDir + "/conditional-put.json"
	wrongKey        = ownDir + "/wrong-%s.json"
	dayLayout       = "dt=2006-01-02/"
	partitionLayout = dayLayout + "hour=15/"

	maxSeq = 1<<63 - 1 // of a record
)

// Key is the key of an object, as fields.
type Key struct {
	Node              string
	LogID, Run        uint64
	FirstSeq, LastSeq uint64
	Hour              int64 // of the first record: hours since 1970, UTC
	// Beside marks an object that is stored beside the one with the plain key, because
	// their lines differ. SHA8 is the first four bytes of the SHA-256 of its lines.
	Beside bool
	SHA8   uint32
}

// HourOf returns the hour of a time, counted from 1970, UTC.
func HourOf(t time.Time) int64 { return t.Unix() / 3600 }

// Partition returns the prefix of the keys of an hour's objects, with the last slash.
func Partition(hour int64) string { return time.Unix(hour*3600, 0).UTC().Format(partitionLayout) }

// DayPrefix returns the prefix of the keys of all objects of the day of an hour.
func DayPrefix(hour int64) string { return time.Unix(hour*3600, 0).UTC().Format(dayLayout) }

// PartitionOf returns the hour of the partition of a key. It does not check the rest of
// the key.
func PartitionOf(key string) (hour int64, ok bool) {
	if len(key) < len(partitionLayout) {
		return 0, false
	}
	at, err := time.Parse(partitionLayout, key[:len(partitionLayout)])
	return at.Unix() / 3600, err == nil
}

// String returns the key of the object.
func (k Key) String() string {
	sha8 := ""
	if k.Beside {
		sha8 = fmt.Sprintf("~%08x", k.SHA8)
	}
	return Partition(k.Hour) + k.stem() + sha8 + Suffix
}

// LossKey returns the key of a note that the records are lost.
func (k Key) LossKey() string { return LossPrefix + k.stem() + jsonSuffix }

// HeartbeatKey returns the key of the heartbeat of the node's log.
func (k Key) HeartbeatKey() string {
	return HeartbeatPrefix + k.Node + "-" + HexID(k.LogID) + jsonSuffix
}

// LogPrefix returns the prefix of the keys of all objects of the node's log in the hour.
func (k Key) LogPrefix() string { return Partition(k.Hour) + k.logStem() }

func (k Key) logStem() string { return k.Node + "-" + HexID(k.LogID) + "-" }

func (k Key) stem() string {
	return k.logStem() + fmt.Sprintf("%020d-%020d-", k.FirstSeq, k.LastSeq) + HexID(k.Run)
}

// HexID returns a log id or a run as 16 hex digits.
func HexID(id uint64) string { return fmt.Sprintf("%016x", id) }

// besideKey returns the key of an object whose own key is taken by other lines.
func besideKey(key, sha256 string) string {
	return strings.TrimSuffix(key, Suffix) + "~" + sha256[:8] + Suffix
}

// ParseKey parses the key of an object with lines. It accepts only what String returns.
func ParseKey(key string) (k Key, ok bool) {
	stem, ok := strings.CutSuffix(key, Suffix)
	hour, inPartition := PartitionOf(stem)
	if !ok || !inPartition {
		return k, false
	}
	stem, sha8, beside := strings.Cut(stem[len(partitionLayout):], "~")
	if k, ok = parseStem(stem); !ok {
		return k, false
	}
	if k.Beside = beside; beside {
		sum, err := strconv.ParseUint(sha8, 16, 32)
		if err != nil {
			return k, false
		}
		k.SHA8 = uint32(sum)
	}
	k.Hour = hour
	return k, k.String() == key
}

// ParseLossKey parses the key of a loss note. It accepts only what LossKey returns.
func ParseLossKey(key string) (k Key, ok bool) {
	stem, ok := strings.CutPrefix(key, LossPrefix)
	if !ok {
		return k, false
	}
	if stem, ok = strings.CutSuffix(stem, jsonSuffix); !ok {
		return k, false
	}
	if k, ok = parseStem(stem); !ok {
		return k, false
	}
	return k, k.LossKey() == key
}

// ParseHeartbeatKey parses node and log id in the key of a heartbeat. It accepts only
// what HeartbeatKey returns.
func ParseHeartbeatKey(key string) (k Key, ok bool) {
	stem, inPlace := strings.CutPrefix(key, HeartbeatPrefix)
	stem, ok = strings.CutSuffix(stem, jsonSuffix)
	at := len(stem) - len("-0123456789abcdef")
	if !inPlace || !ok || at < 1 || strings.Contains(stem, "/") {
		return k, false
	}
	logID, err := strconv.ParseUint(stem[at+1:], 16, 64)
	k = Key{Node: stem[:at], LogID: logID}
	return k, err == nil && k.HeartbeatKey() == key
}

// parseStem parses node-logID-first-last-run from its end, since a node may contain
// dashes.
func parseStem(stem string) (k Key, ok bool) {
	const sizes = len("-0123456789abcdef-01234567890123456789-01234567890123456789-0123456789abcdef")
	at := len(stem) - sizes
	if at < 1 || strings.Contains(stem[:at], "/") {
		return k, false
	}
	k.Node = stem[:at]
	part := func(from, size, base int) (v uint64) {
		from += at
		v, err := strconv.ParseUint(stem[from+1:from+1+size], base, 64)
		ok = ok && err == nil && stem[from] == '-'
		return v
	}
	ok = true
	k.LogID, k.FirstSeq, k.LastSeq, k.Run = part(0, 16, 16), part(17, 20, 10), part(38, 20, 10), part(59, 16, 16)
	return k, ok && k.FirstSeq >= 1 && k.FirstSeq <= k.LastSeq && k.LastSeq <= maxSeq
}
