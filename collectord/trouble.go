package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// troubleKey is the attribute that marks what can repeat. Its value names the
// trouble, and is one of few.
const troubleKey = "trouble"

// summaryInterval is how long a trouble is quiet after each of its lines.
const summaryInterval = 30 * time.Second

// troubleHandler is a slog.Handler that keeps what repeats from flooding the
// log: a failure is printed when it first happens, then summed up every 30
// seconds, and its end is printed with how often it happened and how long that
// went on.
//
// It is a handler so that the packages need nothing but slog for it, and so that
// there is one place with a clock, timers and a summary at exit: wal may not
// know of the others, and all of them have failures that repeat. They log every
// failure as it happens (Warn or Error) and every end (Info), both with the same
// troubleKey, and know nothing of this handler; without it, each line is
// printed. What only the package can know is that a trouble is over; what only a
// clock can know, when to speak, is here.
//
// A trouble that comes and goes is thinned in the same way: what begins while it
// is to be quiet is told with the next summary. Whole numbers among the
// attributes of a failure are taken for counts, and added up.
type troubleHandler struct {
	slog.Handler
	known *troubles
}

// troubles are those seen so far. There are as many as names.
type troubles struct {
	changed chan struct{} // one began or is over; holds one
	mu      sync.Mutex    // guards what follows
	byName  map[string]*trouble
}

// trouble is one of them, from its first failure on. The mutex of its troubles
// guards it.
type trouble struct {
	kind  troubleKind
	open  bool
	told  bool        // a line was printed since it began
	since time.Time   // when it began
	count int         // failures since then
	ended slog.Record // the line of an end that was not told; it has no message otherwise

	quiet  *time.Timer // runs while nothing is to be printed; nil otherwise
	untold int         // failures since the last line
	sums   map[string]int64
	last   slog.Record  // the latest failure
	to     slog.Handler // where that goes
}

func newTroubleHandler(to slog.Handler) *troubleHandler {
	return &troubleHandler{to, &troubles{changed: make(chan struct{}, 1), byName: map[string]*trouble{}}}
}

// Enabled is true for what the log's level hides, too, so that the end of a
// trouble is known.
func (h *troubleHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.Handler.Enabled(ctx, l)
}

// WithAttrs is as slog.Handler has it; the troubles stay the same.
func (h *troubleHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &troubleHandler{h.Handler.WithAttrs(attrs), h.known}
}

// WithGroup is as slog.Handler has it; the troubles stay the same.
func (h *troubleHandler) WithGroup(name string) slog.Handler {
	return &troubleHandler{h.Handler.WithGroup(name), h.known}
}

// Handle prints a record now, or with the next summary, or not at all.
func (h *troubleHandler) Handle(ctx context.Context, r slog.Record) error {
	name := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == troubleKey {
			name = a.Value.String()
		}
		return name == ""
	})
	if name == "" {
		return pass(ctx, h.Handler, r)
	}
	h.known.mu.Lock()
	defer h.known.mu.Unlock()
	t := h.known.byName[name]
	if failed := r.Level >= slog.LevelWarn; failed != (t != nil && t.open) {
		h.known.signal()
	}
	if t == nil {
		t = &trouble{kind: kindOf(name), sums: map[string]int64{}}
		h.known.byName[name] = t
	}
	if r.Level < slog.LevelWarn {
		return t.over(ctx, r, h.Handler)
	}
	t.failed(r, h.Handler)
	if t.quiet != nil {
		return nil
	}
	return h.known.tellLocked(ctx, t)
}

// signal has whoever reports troubles look again.
func (k *troubles) signal() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func pass(ctx context.Context, to slog.Handler, r slog.Record) error {
	if !to.Enabled(ctx, r.Level) {
		return nil
	}
	return to.Handle(ctx, r)
}

// failed notes a failure.
func (t *trouble) failed(r slog.Record, to slog.Handler) {
	if !t.open && t.ended.Message == "" || t.isOld(r.Time) {
		t.told, t.since, t.count = false, r.Time, 0
	}
	t.open, t.ended = true, slog.Record{}
	t.count++
	t.untold++
	t.last, t.to = r.Clone(), to
	r.Attrs(func(a slog.Attr) bool {
		if n, ok := whole(a.Value); ok {
			t.sums[a.Key] += n
		}
		return true
	})
}

func whole(v slog.Value) (n int64, ok bool) {
	switch v.Kind() {
	case slog.KindInt64:
		return v.Int64(), true
	case slog.KindUint64:
		return int64(v.Uint64()), true
	}
	return 0, false
}

// over notes and tells the end, unless the beginning is still to be told.
func (t *trouble) over(ctx context.Context, r slog.Record, to slog.Handler) error {
	if !t.open {
		return pass(ctx, to, r)
	}
	t.open = false
	if !t.told {
		t.ended = r.Clone()
		return nil
	}
	t.forget() // the end tells of them
	return t.tellEnd(ctx, r, to)
}

func (t *trouble) tellEnd(ctx context.Context, r slog.Record, to slog.Handler) error {
	r = r.Clone()
	r.AddAttrs(slog.Int("times", t.count), slog.String("lasted", r.Time.Sub(t.since).Round(time.Millisecond).String()))
	return pass(ctx, to, r)
}

func (t *trouble) forget() {
	t.untold = 0
	clear(t.sums)
}

// tellLocked prints what was not told, and keeps quiet for a while.
func (k *troubles) tellLocked(ctx context.Context, t *trouble) error {
	line := slog.NewRecord(time.Now(), t.last.Level, t.last.Message, t.last.PC)
	t.last.Attrs(func(a slog.Attr) bool {
		if _, ok := whole(a.Value); ok {
			a.Value = slog.Int64Value(t.sums[a.Key])
		}
		line.AddAttrs(a)
		return true
	})
	if t.untold > 1 {
		line.AddAttrs(slog.Int("times", t.untold))
	}
	t.forget()
	t.told = true
	t.quiet = time.AfterFunc(summaryInterval, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		_ = k.sumUpLocked(t) // nobody is left to be told that the log fails
	})
	err := pass(ctx, t.to, line)
	if t.ended.Message != "" {
		err = t.tellEnd(ctx, t.ended, t.to)
		t.ended = slog.Record{}
	}
	return err
}

// sumUpLocked ends the time of quiet.
func (k *troubles) sumUpLocked(t *trouble) error {
	t.quiet = nil
	if t.untold == 0 {
		return nil
	}
	return k.tellLocked(context.Background(), t)
}

// flush prints what is yet to be told, at the end of the process.
func (h *troubleHandler) flush() {
	h.known.mu.Lock()
	defer h.known.mu.Unlock()
	for _, t := range h.known.byName {
		if t.quiet != nil {
			t.quiet.Stop()
		}
		_ = h.known.sumUpLocked(t) // as above
	}
}
