package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"collectord/shipper/bucket"
)

// Selection selects records of a bucket. The zero value of each field selects all.
type Selection struct {
	Node     string
	From, To time.Time // receipt time in [From, To)
	IDs      []bucket.ID
}

// ErrNoSuchID means that at least one of a selection's IDs was not found.
var ErrNoSuchID = errors.New("no such record")

// DamagedError means that objects are damaged, or that the storage does not return them.
// Their readable parts were delivered.
type DamagedError struct {
	Objects int
	First   error // names one of the objects
}

func (e *DamagedError) Error() string {
	if e.Objects == 1 {
		return e.First.Error()
	}
	return fmt.Sprintf("%d objects are damaged or can't be read, such as %v", e.Objects, e.First)
}

func (e *DamagedError) Unwrap() error { return e.First }

// hours returns the first and the last hour since 1970 that can contain records. fromKnown
// and toKnown report whether each bound is certain.
func (s Selection) hours(now time.Time) (from, to int64, fromKnown, toKnown bool) {
	if !s.From.IsZero() {
		from, fromKnown = bucket.HourOf(s.From), true
	}
	// Without an end, the margin allows for a host whose clock is a day ahead.
	to = bucket.HourOf(now.Add(24 * time.Hour))
	if !s.To.IsZero() {
		to, toKnown = bucket.HourOf(s.To.Add(-1)), true
	}
	if len(s.IDs) == 0 || fromKnown || toKnown {
		return from, to, fromKnown, toKnown
	}
	// A UUIDv7 contains its creation time, in ms (RFC 9562). It is close to the time of
	// receipt unless the clock was set back.
	lowest, highest := int64(1<<62), int64(0)
	for _, id := range s.IDs {
		if id[6]>>4 != 7 {
			return from, to, false, false
		}
		millis := int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
		lowest, highest = min(lowest, millis), max(highest, millis)
	}
	return lowest/3_600_000 - 1, highest/3_600_000 + 1, true, true
}

// keys lists the objects that may contain selected records, ordered by hour, node and seq.
// It lists only the hours or days it needs, and keeps the keys of only one hour in memory.
func (s Selection) keys(ctx context.Context, store bucket.Store, now time.Time) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		from, to, fromKnown, _ := s.hours(now)
		for prefix := range prefixes(from, to, fromKnown) {
			wanted := func(key string) bool { return s.mayContain(key, from, to, fromKnown) }
			if !yieldSorted(ctx, store, prefix, wanted, yield) {
				return
			}
		}
	}
}

// prefixes yields what to list for the hours from to to: hours, or days if there are many, or
// everything if the first hour is not known.
func prefixes(from, to int64, fromKnown bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		switch {
		case !fromKnown:
			yield(bucket.DataPrefix)
		case to-from < 2*24:
			for hour := from; hour <= to && yield(bucket.Partition(hour)); hour++ {
			}
		default:
			for day := from / 24; day <= to/24 && yield(bucket.DayPrefix(day*24)); day++ {
			}
		}
	}
}

// yieldSorted lists a prefix and yields the wanted keys, sorted within each folder. A folder
// is not yielded again if the listing is restarted. It reports whether to go on.
func yieldSorted(ctx context.Context, store bucket.Store, prefix string, wanted func(key string) bool, yield func(string, error) bool) bool {
	yielded := map[string]bool{} // folders
	stopped := false
	err := bucket.Retry(ctx, func() error {
		before := maps.Clone(yielded)
		folder, keys := "", []string(nil)
		flush := func() {
			slices.Sort(keys)
			for _, k := range keys {
				stopped = stopped || !yield(k, nil)
			}
			keys = keys[:0]
		}
		for key, err := range store.List(ctx, prefix) {
			if err != nil {
				return err
			}
			keyFolder := key[:strings.LastIndexByte(key, '/')+1]
			if before[keyFolder] || !wanted(key) {
				continue
			}
			if keyFolder != folder {
				if flush(); stopped {
					return nil
				}
				yielded[folder], folder = true, keyFolder
			}
			keys = append(keys, key)
		}
		flush()
		return nil
	})
	if err != nil {
		yield("", err)
	}
	return err == nil && !stopped
}

// mayContain reports whether the object with this key may contain selected records.
func (s Selection) mayContain(key string, from, to int64, fromKnown bool) bool {
	k, ok := bucket.ParseKey(key)
	if !ok {
		// The key of a renamed copy has the hour in its folder, if at all.
		if !strings.HasSuffix(key, bucket.Suffix) || s.Node != "" {
			return false
		}
		k.Hour = hourOf(key)
	}
	return (!fromKnown || k.Hour >= from) && (k.Hour <= to || k.Hour == noPartition) && (s.Node == "" || s.Node == k.Node)
}

// Records calls each with the selected lines. The lines are complete, arrive in batches, and are
// valid only during the call. Lines keep their order within an object; objects come by hour, node
// and seq.
//
// Records stops early once it has found all ids, if all are UUIDv7s, which occur only
// once. It returns ErrNoSuchID if some were not found. It skips damaged objects and
// reports them by a DamagedError at the end.
//
// Records fetches objects ahead, except when it may stop early. The read-ahead takes 4
// MiB, plus the memory of a bucket.Reader for decoding.
func (s Selection) Records(ctx context.Context, store bucket.Store, progress func(objects int), each func(lines []byte) error) error {
	damaged, err := s.records(ctx, store, progress, each)
	if damaged == nil { // a nil *DamagedError must not become a non-nil error
		return err
	}
	return errors.Join(err, damaged)
}

func (s Selection) records(ctx context.Context, store bucket.Store, progress func(objects int), each func(lines []byte) error) (damaged *DamagedError, err error) {
	w := lineFilter{selection: s, each: each}
	w.from, w.to = formatTime(s.From), formatTime(s.To)
	for _, id := range s.IDs {
		if w.ids == nil {
			w.ids = map[string]bool{}
		}
		w.ids[id.String()] = false
		w.remaining++
		w.mayRepeat = w.mayRepeat || id[6]>>4 != 7
	}
	objects := 0
	r := objectReader{calls: &objectCalls{store: store}, each: w.filterLines}
	defer r.close()
	err = s.objects(ctx, store, &r.calls.pace, w.remaining > 0 && !w.mayRepeat, func(o *prefetchedObject) error {
		err := o.err
		if err == nil {
			err = r.read(ctx, o)
		}
		var damage *DamagedError
		if errors.As(err, &damage) {
			if damaged == nil {
				damaged = &DamagedError{First: damage.First}
			}
			damaged.Objects++
			err = nil
		}
		objects++
		progress(objects)
		return err
	})
	switch {
	case errors.Is(err, errAllFound):
		err = nil
	case err == nil && w.remaining > 0:
		var missing []string
		for id, found := range w.ids {
			if !found {
				missing = append(missing, id)
			}
		}
		slices.Sort(missing)
		err = fmt.Errorf("%w: %s (searched: %s)", ErrNoSuchID, strings.Join(missing, ", "), s.searchedRange())
	}
	return damaged, err
}

// objects calls the function each once for every object that may contain selected records.
func (s Selection) objects(ctx context.Context, store bucket.Store, pace *bucket.Pace, sequential bool, each func(*prefetchedObject) error) error {
	keys := func(ctx context.Context) iter.Seq2[string, error] { return s.keys(ctx, store, time.Now()) }
	if sequential {
		for key, err := range keys(ctx) {
			if err := each(&prefetchedObject{key: key, err: err}); err != nil {
				return err
			}
		}
		return nil
	}
	for o := range fetchAhead(ctx, store, pace, keys) {
		if err := each(o); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s Selection) searchedRange() string {
	from, to, known, toKnown := s.hours(time.Now())
	switch {
	case !known:
		return "all hours"
	case s.From.IsZero() && s.To.IsZero() && toKnown:
		return fmt.Sprintf("the hours around the id's time, %s to %s; if a clock was set back, the record can be in another hour: give --from and --to, too", bucket.Partition(from), bucket.Partition(to))
	}
	return fmt.Sprintf("%s to %s", bucket.Partition(from), bucket.Partition(to))
}

// formatTime formats a time as lines do; a zero time is empty.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return bucket.FormatTime(t)
}

var errAllFound = errors.New("all ids are found")

// lineFilter filters lines.
type lineFilter struct {
	selection Selection
	from, to  string
	ids       map[string]bool // id -> whether it was found
	remaining int             // number of ids not found yet
	mayRepeat bool            // some ids may occur more than once
	each      func(lines []byte) error
}

// filterLines filters complete lines.
func (w *lineFilter) filterLines(lines []byte) error {
	if w.from == "" && w.to == "" && w.ids == nil {
		return w.each(lines)
	}
	for line := range bytes.Lines(lines) {
		if err := w.filterLine(line); err != nil {
			return err
		}
	}
	return nil
}

func (w *lineFilter) filterLine(line bucket.Line) error {
	if w.from != "" || w.to != "" {
		if at := line.ReceivedAt(); w.from != "" && string(at) < w.from || w.to != "" && string(at) >= w.to {
			return nil
		}
	}
	if w.ids == nil {
		return w.each(line)
	}
	id := line.IDText()
	found, ok := w.ids[string(id)]
	if !ok {
		return nil
	}
	if err := w.each(line); err != nil {
		return err
	}
	if !found {
		w.ids[string(id)] = true
		if w.remaining--; w.remaining == 0 && !w.mayRepeat {
			return errAllFound
		}
	}
	return nil
}
