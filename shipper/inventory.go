package shipper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// inventory is what a bucket's listing tells. It takes 24 bytes for an object,
// and up to twice that while it grows, so that millions fit in the memory of a
// small host.
type inventory struct {
	logs    map[uint64]*logbook
	strays  []stray // objects with lines whose names are not ours
	foreign int     // those beyond maxStrays
	objects int
	notes   int
}

// logbook is what there is of one log.
type logbook struct {
	id    uint64
	runs  []*chapter
	byRun map[runOfNode]*chapter
	notes []lossEntry
	known
}

// known is what was asked already: below which seq all is there or lost.
type known struct {
	asked     bool
	confirmed uint64
}

type runOfNode struct {
	run  uint64
	node string
}

// chapter is what there is of one run.
type chapter struct {
	node   string
	run    uint64
	spans  []span
	forked bool // another run has some of its seqs
	known
}

// span is one object: as much of its name as its chapter does not tell.
type span struct {
	first uint64
	count uint32
	hour  int32
	sha8  uint32
	kind  int32 // plain, beside, or the stray's index
}

const (
	plain  = -2 // sorts first
	beside = -1
)

func (s span) last() uint64 { return s.first + uint64(s.count) - 1 }

// stray is an object under a name of its own.
type stray struct {
	key  string
	what string // is known of it
}

// maxStrays bounds those whose metadata is looked at and whose names are told.
const maxStrays = 10_000

// lossEntry is a loss note of the bucket.
type lossEntry struct {
	first, last, run uint64
	node, reason     string
	at               time.Time
}

// takeInventory lists the bucket.
func takeInventory(ctx context.Context, store Store, progress func(int)) (*inventory, error) {
	v := &inventory{logs: map[uint64]*logbook{}}
	var names []string
	for key, err := range store.List(ctx, dataPrefix) {
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(key, objectSuffix) {
			continue // readers of the data pass it over, too
		}
		v.objects++
		if progress != nil {
			progress(v.objects)
		}
		if n, ok := parseKey(key); ok && n.last-n.first < math.MaxUint32 {
			kind := int32(plain)
			if n.beside {
				kind = beside
			}
			v.add(n, kind)
		} else if len(names) < maxStrays {
			names = append(names, key)
		} else {
			v.foreign++
		}
	}
	if err := v.identify(ctx, store, names); err != nil {
		return nil, err
	}
	if err := v.readNotes(ctx, store); err != nil {
		return nil, err
	}
	for _, l := range v.logs {
		for _, c := range l.runs {
			slices.SortFunc(c.spans, func(a, b span) int {
				return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.count, b.count), cmp.Compare(min(a.kind, 0), min(b.kind, 0)),
					cmp.Compare(a.hour, b.hour), cmp.Compare(a.sha8, b.sha8), cmp.Compare(a.kind, b.kind))
			})
		}
		slices.SortFunc(l.runs, func(a, b *chapter) int {
			return cmp.Or(cmp.Compare(a.spans[0].first, b.spans[0].first), cmp.Compare(a.run, b.run))
		})
		slices.SortFunc(l.notes, func(a, b lossEntry) int {
			return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.last, b.last))
		})
	}
	return v, nil
}

func (v *inventory) log(id uint64) *logbook {
	l := v.logs[id]
	if l == nil {
		l = &logbook{id: id, byRun: map[runOfNode]*chapter{}}
		v.logs[id] = l
	}
	return l
}

func (v *inventory) add(n name, kind int32) {
	l := v.log(n.logID)
	c := l.byRun[runOfNode{n.run, n.node}]
	if c == nil {
		c = &chapter{node: strings.Clone(n.node), run: n.run} // the name is part of a key
		l.runs = append(l.runs, c)
		l.byRun[runOfNode{c.run, c.node}] = c
	}
	c.spans = append(c.spans, span{first: n.first, count: uint32(n.last - n.first + 1), hour: int32(n.hour), sha8: n.sha8, kind: kind})
}

// identify asks for the metadata of objects whose names tell nothing: a copy
// under another name holds records all the same.
func (v *inventory) identify(ctx context.Context, store Store, keys []string) error {
	found := make([]Metadata, len(keys))
	gone := make([]bool, len(keys))
	err := atOnce(ctx, len(keys), func(i int) (err error) {
		var there Stored
		there, err = store.Stat(ctx, keys[i])
		found[i] = there.Metadata
		gone[i] = errors.Is(err, ErrNotFound)
		return err
	})
	for i, key := range keys {
		if gone[i] || err != nil {
			continue
		}
		s := stray{key: key, what: "no metadata of collectord"}
		if n, ok := nameOf(found[i]); ok {
			n.hour = partitionOf(key)
			s.what = ""
			v.add(n, int32(len(v.strays)))
		}
		v.strays = append(v.strays, s)
	}
	return err
}

// partitionOf is the hour that a key lies in, or one beyond all.
func partitionOf(key string) (hour int64) {
	const folder = len("dt=2006-01-02/hour=15/")
	if len(key) > folder {
		if at, err := time.Parse("dt=2006-01-02/hour=15/", key[:folder]); err == nil {
			return at.Unix() / 3600
		}
	}
	return elsewhere
}

// elsewhere is the hour of what lies in no partition.
const elsewhere = math.MaxInt32

// nameOf is the part of a name that metadata tells: all but the hour.
func nameOf(m Metadata) (n name, ok bool) {
	if m.SHA256 == "" || m.FirstSeq < 1 || m.LastSeq < m.FirstSeq || m.LastSeq-m.FirstSeq >= math.MaxUint32 {
		return n, false
	}
	logID, err := strconv.ParseUint(m.LogID, 16, 64)
	run, runErr := strconv.ParseUint(m.Run, 16, 64)
	return name{node: m.Node, logID: logID, run: run, first: m.FirstSeq, last: m.LastSeq}, errors.Join(err, runErr) == nil
}

// readNotes reads what is known to be lost.
func (v *inventory) readNotes(ctx context.Context, store Store) error {
	var names []name
	for key, err := range store.List(ctx, lostPrefix) {
		if err != nil {
			return err
		}
		if n, ok := parseLossKey(key); ok {
			names = append(names, n)
		}
	}
	entries := make([]lossEntry, len(names))
	err := atOnce(ctx, len(names), func(i int) error {
		n := names[i]
		entries[i] = lossEntry{first: n.first, last: n.last, run: n.run, node: n.node}
		return entries[i].read(ctx, store, n)
	})
	for i, n := range names {
		if l := v.log(n.logID); entries[i].reason != "" { // else deleted meanwhile
			l.notes = append(l.notes, entries[i])
			v.notes++
		}
	}
	return err
}

// read learns why the records are lost. The name alone says that they are.
func (e *lossEntry) read(ctx context.Context, store Store, n name) error {
	body, err := store.Open(ctx, n.lossKey())
	if err != nil {
		return err
	}
	defer body.Close()
	in := &faultKeeper{in: io.LimitReader(body, maxMetadata)}
	var o lossObject
	if err := json.NewDecoder(in).Decode(&o); err != nil || o.FirstSeq != n.first || o.LastSeq != n.last || o.Reason == "" {
		e.reason = "unreadable note"
		return in.err
	}
	e.reason = o.Reason
	e.at, _ = time.Parse(time.RFC3339Nano, o.At) // zero: not known
	return nil
}

// key is the name of an object of the log.
func (v *inventory) key(l *logbook, c *chapter, s span) string {
	if s.kind >= 0 {
		return v.strays[s.kind].key
	}
	n := name{node: c.node, logID: l.id, run: c.run, first: s.first, last: s.last(), hour: int64(s.hour), beside: s.kind == beside, sha8: s.sha8}
	return n.key()
}
