package shipper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"collectord/wal"
)

// Selection says which records of a bucket are meant. The zero value of each
// field means all.
type Selection struct {
	Node     string
	From, To time.Time // received at From or later, and before To
	IDs      []wal.ID
}

// ErrNoSuchID says that records of a selection's IDs were not found.
var ErrNoSuchID = errors.New("no such record")

// DamagedError says that objects are not whole. What could be read of them was
// given.
type DamagedError struct {
	Objects int
	First   error // names one of them
}

func (e *DamagedError) Error() string {
	if e.Objects == 1 {
		return e.First.Error()
	}
	return fmt.Sprintf("%d objects are damaged, such as %v", e.Objects, e.First)
}

func (e *DamagedError) Unwrap() error { return e.First }

// hours are the first and the last hour since 1970 in which there can be
// records, and whether that is known of either end.
func (s Selection) hours(now time.Time) (from, to int64, fromKnown, toKnown bool) {
	if !s.From.IsZero() {
		from, fromKnown = hourOf(s.From), true
	}
	// Without an end: until a host whose clock is a day ahead.
	to = hourOf(now.Add(24 * time.Hour))
	if !s.To.IsZero() {
		to, toKnown = hourOf(s.To.Add(-1)), true
	}
	if len(s.IDs) == 0 || fromKnown || toKnown {
		return from, to, fromKnown, toKnown
	}
	// A version 7 tells when it was drawn: near to when its record was received,
	// unless the clock was set back.
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

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// keys lists the objects that may hold some of it, by hour, node and seq. It
// lists no other hours or days than it must, and keeps the names of one hour only.
func (s Selection) keys(ctx context.Context, store Store, now time.Time) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		from, to, known, _ := s.hours(now)
		var batch []string
		flush := func() bool {
			slices.Sort(batch)
			for _, k := range batch {
				if !yield(k, nil) {
					return false
				}
			}
			batch = batch[:0]
			return true
		}
		list := func(prefix string) bool {
			given := map[string]bool{} // folders, should a listing have to be begun anew
			stopped := false
			err := patiently(ctx, func() error {
				before := maps.Clone(given)
				folder := ""
				batch = batch[:0]
				for key, err := range store.List(ctx, prefix) {
					if err != nil {
						return err
					}
					in := key[:strings.LastIndexByte(key, '/')+1]
					if before[in] || !s.mayBeIn(key, from, to, known) {
						continue
					}
					if in != folder {
						if stopped = !flush(); stopped {
							return nil
						}
						given[folder], folder = true, in
					}
					batch = append(batch, key)
				}
				stopped = !flush()
				return nil
			})
			if err != nil {
				yield("", err)
			}
			return err == nil && !stopped
		}
		switch {
		case !known:
			list(dataPrefix)
		case to-from < 2*24:
			for h := from; h <= to; h++ {
				if !list(partition(h)) {
					return
				}
			}
		default:
			for day := from / 24; day <= to/24; day++ {
				if !list(partition(day * 24)[:len("dt=2006-01-02/")]) {
					return
				}
			}
		}
	}
}

// mayBeIn tells by its key whether an object may hold some of the selection.
func (s Selection) mayBeIn(key string, from, to int64, fromKnown bool) bool {
	n, ok := parseKey(key)
	if !ok {
		// A copy under another name: its folder tells the hour, if anything does.
		if !strings.HasSuffix(key, objectSuffix) || s.Node != "" {
			return false
		}
		n.hour = partitionOf(key)
	}
	return (!fromKnown || n.hour >= from) && (n.hour <= to || n.hour == elsewhere) && (s.Node == "" || s.Node == n.node)
}

// Records gives each line of the selection to each, with its line break, valid
// until each returns. The lines of an object come in their order, objects by
// hour, node and seq. It ends early once every id is found that can't be there
// twice, and with ErrNoSuchID if some were not. Damaged objects are passed over,
// and told of by a DamagedError at the end.
func (s Selection) Records(ctx context.Context, store Store, progress func(objects int), each func(line []byte) error) error {
	w := wanted{selection: s, each: each}
	w.from, w.to = textOf(s.From), textOf(s.To)
	for _, id := range s.IDs {
		if w.ids == nil {
			w.ids = map[string]bool{}
		}
		w.ids[id.String()] = false
		w.open++
		w.repeatable = w.repeatable || id[6]>>4 != 7
	}
	objects := 0
	var damaged error
	for key, err := range s.keys(ctx, store, time.Now()) {
		if err == nil {
			err = eachLine(ctx, store, key, w.line)
		}
		var damage *DamagedError
		switch {
		case errors.Is(err, errEnough):
			return damaged
		case errors.As(err, &damage):
			if first, ok := damaged.(*DamagedError); ok { //nolint:errorlint // it is ours
				first.Objects++
			} else {
				damaged = damage
			}
		case err != nil:
			return err
		}
		objects++
		progress(objects)
	}
	if w.open == 0 {
		return damaged
	}
	var open []string
	for id, found := range w.ids {
		if !found {
			open = append(open, id)
		}
	}
	slices.Sort(open)
	return errors.Join(fmt.Errorf("%w: %s (searched: %s)", ErrNoSuchID, strings.Join(open, ", "), s.searched()), damaged)
}

func (s Selection) searched() string {
	from, to, known, toKnown := s.hours(time.Now())
	switch {
	case !known:
		return "all there is"
	case s.From.IsZero() && s.To.IsZero() && toKnown:
		return fmt.Sprintf("the hours around the id's time, %s to %s; where a clock was set back it can lie elsewhere: give times", partition(from), partition(to))
	}
	return fmt.Sprintf("%s to %s", partition(from), partition(to))
}

// textOf is the time as lines tell it, or nothing.
func textOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

var errEnough = errors.New("all is found")

// wanted picks lines.
type wanted struct {
	selection  Selection
	from, to   string
	ids        map[string]bool // whether they were found
	open       int             // not found yet
	repeatable bool            // some may be there more than once
	each       func([]byte) error
}

func (w *wanted) line(line []byte) error {
	id, at := Line(line).id(), Line(line).receivedAt()
	if w.from != "" && string(at) < w.from || w.to != "" && string(at) >= w.to {
		return nil
	}
	if w.ids == nil {
		return w.each(line)
	}
	found, ok := w.ids[string(id)]
	if !ok {
		return nil
	}
	if err := w.each(line); err != nil {
		return err
	}
	if !found {
		w.ids[string(id)] = true
		if w.open--; w.open == 0 && !w.repeatable {
			return errEnough
		}
	}
	return nil
}

// eachLine reads an object. When the storage breaks off, it goes on where that
// happened.
func eachLine(ctx context.Context, store Store, key string, each func([]byte) error) error {
	done := 0
	err := patiently(ctx, func() error {
		body, err := store.Open(ctx, key)
		if err != nil {
			return err
		}
		defer body.Close()
		in := &faultKeeper{in: body}
		lines, err := NewObjectReader(in)
		if err != nil {
			return errors.Join(err, in.err)
		}
		defer lines.Close()
		for n := 1; ; n++ {
			line, err := lines.Next()
			switch {
			case in.err != nil:
				return in.err
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return &DamagedError{1, fmt.Errorf("%s: damaged after %d records: %w", key, n-1, err)}
			}
			if n <= done {
				continue
			}
			if err := each(line); err != nil {
				return err
			}
			done = n
		}
	})
	if errors.Is(err, ErrNotFound) { // deleted since it was listed, by a life-cycle rule
		return nil
	}
	return err
}
