package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"collectord/shipper/bucket"
)

// inventory is the content of a bucket's listing. It takes 24 bytes per object, so that
// millions of objects fit in the memory of a small host.
type inventory struct {
	logs           map[uint64]*logObjects
	others         []unidentifiedObject // data objects whose keys do not identify them
	unlistedOthers int                  // number of objects beyond maxOthers
	objects        int
	notes          int
}

// logObjects is what the bucket contains of one log.
type logObjects struct {
	id        uint64
	runs      []*runObjects
	byRun     map[runOfNode]*runObjects
	notes     []lossNote
	confirmed confirmed
	heartbeat *bucket.Heartbeat // the latest; nil: none
}

type runOfNode struct {
	run  uint64
	node string
}

// runObjects is what the bucket contains of one run.
type runObjects struct {
	node      string
	run       uint64
	objects   objectRefs
	forked    bool // another run has some of its seqs
	confirmed confirmed
}

// objectRef is one object: its key without the parts that all objects of a run share.
type objectRef struct {
	first uint64
	count uint32
	hour  int32
	sha8  uint32
	kind  int32 // plain, beside, or an index in inventory.others
}

const (
	plain  = -2 // sorts first
	beside = -1
)

func (o objectRef) last() uint64 { return o.first + uint64(o.count) - 1 }

// unidentifiedObject is an object whose key does not identify it.
type unidentifiedObject struct {
	key        string
	problem    string // empty: its metadata identifies its records
	impossible bool   // collectord never writes such a key
}

// maxOthers limits for how many unidentified objects the metadata is read and the key is
// reported.
const maxOthers = 10_000

// lossNote is a loss note in the bucket.
type lossNote struct {
	bucket.Key
	reason string
	at     time.Time // zero: unknown
}

// takeInventory lists the bucket.
func takeInventory(ctx context.Context, calls *objectCalls, progress func(int)) (v *inventory, err error) {
	var names []string
	err = bucket.Retry(ctx, func() (err error) {
		v = &inventory{logs: map[uint64]*logObjects{}}
		names, err = v.list(ctx, calls.store, progress)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := v.identify(ctx, calls, names); err != nil {
		return nil, err
	}
	if err := v.readNotes(ctx, calls); err != nil {
		return nil, err
	}
	v.sort()
	return v, v.checkListedOnce(names)
}

// list enters the listed objects, and returns the keys that ParseKey does not recognize.
func (v *inventory) list(ctx context.Context, store bucket.Store, progress func(int)) (names []string, err error) {
	for key, err := range store.List(ctx, bucket.DataPrefix) {
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(key, bucket.Suffix) {
			continue // readers of the data skip it, too
		}
		v.objects++
		if progress != nil {
			progress(v.objects)
		}
		k, ok := bucket.ParseKey(key)
		switch {
		case ok && !hasCountableRecords(k) && len(v.others) < maxOthers:
			v.others = append(v.others, unidentifiedObject{key, "its name stands for more records than an object can have: look at it, and move it away", true})
		case ok && hasCountableRecords(k):
			kind := int32(plain)
			if k.Beside {
				kind = beside
			}
			v.add(k, kind)
		case len(names) < maxOthers:
			names = append(names, key)
		default:
			v.unlistedOthers++
		}
	}
	return names, nil
}

// checkListedOnce returns an error if the listing contains a key twice, since each finding
// about that object would be counted twice.
func (v *inventory) checkListedOnce(names []string) error {
	errTwice := func(key string) error {
		return fmt.Errorf("the listing has %.200q twice: this storage, or a proxy in front of it, does not list as S3 does (try again; update it, or copy the bucket to a folder and audit that)", key)
	}
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			return errTwice(names[i])
		}
	}
	for _, l := range v.logs {
		for _, r := range l.runs {
			before := objectRef{}
			for o := range r.objects.all() {
				if o.kind < 0 && o == before {
					return errTwice(v.key(l, r, o))
				}
				before = o
			}
		}
	}
	return nil
}

// hasCountableRecords reports whether an objectRef can count the records of an object.
func hasCountableRecords(k bucket.Key) bool { return k.LastSeq-k.FirstSeq < math.MaxUint32 }

func (v *inventory) sort() {
	for _, l := range v.logs {
		for _, r := range l.runs {
			r.objects.sort()
		}
		slices.SortFunc(l.runs, func(a, b *runObjects) int {
			return cmp.Or(cmp.Compare(a.objects.first().first, b.objects.first().first), cmp.Compare(a.run, b.run))
		})
		slices.SortFunc(l.notes, func(a, b lossNote) int {
			return cmp.Or(cmp.Compare(a.FirstSeq, b.FirstSeq), cmp.Compare(a.LastSeq, b.LastSeq))
		})
	}
}

func (v *inventory) log(id uint64) *logObjects {
	l := v.logs[id]
	if l == nil {
		l = &logObjects{id: id, byRun: map[runOfNode]*runObjects{}}
		v.logs[id] = l
	}
	return l
}

func (v *inventory) add(k bucket.Key, kind int32) {
	l := v.log(k.LogID)
	r := l.byRun[runOfNode{k.Run, k.Node}]
	if r == nil {
		r = &runObjects{node: strings.Clone(k.Node), run: k.Run} // Clone, since k.Node would keep the whole key in memory
		l.runs = append(l.runs, r)
		l.byRun[runOfNode{r.run, r.node}] = r
	}
	r.objects.add(objectRef{first: k.FirstSeq, count: uint32(k.LastSeq - k.FirstSeq + 1), hour: int32(k.Hour), sha8: k.SHA8, kind: kind})
}

// identify reads the metadata of objects whose keys are not recognized: a renamed copy
// still contains records.
func (v *inventory) identify(ctx context.Context, calls *objectCalls, keys []string) error {
	found := make([]bucket.Metadata, len(keys))
	unread := make([]bool, len(keys)) // deleted, or reported as unreadable
	err := bucket.Parallel(ctx, len(keys), func(i int) error {
		objectErr, err := calls.do(ctx, keys[i], func(ctx context.Context) error {
			stored, err := calls.store.Stat(ctx, keys[i])
			found[i] = stored.Metadata
			return err
		})
		unread[i] = objectErr != nil
		return err
	})
	for i, key := range keys {
		if unread[i] || err != nil {
			continue
		}
		other := unidentifiedObject{key: key, problem: "no metadata of collectord"}
		if k, ok := found[i].Key(); ok && hasCountableRecords(k) {
			k.Hour = hourOf(key)
			other.problem = ""
			v.add(k, int32(len(v.others)))
		}
		v.others = append(v.others, other)
	}
	return err
}

// hourOf returns the hour of the partition of a key, or noPartition.
func hourOf(key string) int64 {
	if hour, ok := bucket.PartitionOf(key); ok {
		return hour
	}
	return noPartition
}

// noPartition is the hour of a key outside all partitions. It sorts after all hours.
const noPartition = math.MaxInt32

// readNotes reads the loss notes.
func (v *inventory) readNotes(ctx context.Context, calls *objectCalls) error {
	var notes []lossNote
	err := bucket.Retry(ctx, func() error {
		notes = notes[:0]
		for key, err := range calls.store.List(ctx, bucket.LossPrefix) {
			if err != nil {
				return err
			}
			if k, ok := bucket.ParseLossKey(key); ok {
				notes = append(notes, lossNote{Key: k})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = bucket.Parallel(ctx, len(notes), func(i int) error { return notes[i].read(ctx, calls) })
	for _, n := range notes {
		if l := v.log(n.LogID); n.reason != "" { // else it was deleted since the listing
			l.notes = append(l.notes, n)
			v.notes++
		}
	}
	return err
}

// read reads the reason of the loss. The key alone proves the loss.
func (n *lossNote) read(ctx context.Context, calls *objectCalls) error {
	var note bucket.LossNote
	objectErr, err := calls.do(ctx, n.LossKey(), func(ctx context.Context) (err error) {
		note, err = bucket.ReadLossNote(ctx, calls.store, n.Key)
		return err
	})
	switch {
	case err != nil, errors.Is(objectErr, bucket.ErrNotFound):
	case objectErr != nil:
		n.reason = "unreadable note"
	default:
		n.reason = note.Reason
		if at, err := time.Parse(time.RFC3339Nano, note.At); err == nil && plausibleTime(&at) != nil {
			n.at = at.UTC()
		}
	}
	return err
}

// key returns the key under which an object of the log was listed.
func (v *inventory) key(l *logObjects, r *runObjects, o objectRef) string {
	if o.kind >= 0 {
		return v.others[o.kind].key
	}
	return standardKey(l, r, o).String()
}

// standardKey returns the key that collectord gives to an object.
func standardKey(l *logObjects, r *runObjects, o objectRef) bucket.Key {
	return bucket.Key{
		Node: r.node, LogID: l.id, Run: r.run, FirstSeq: o.first, LastSeq: o.last(),
		Hour: int64(o.hour), Beside: o.kind == beside, SHA8: o.sha8,
	}
}
