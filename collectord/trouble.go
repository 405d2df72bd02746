package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// troubleKey is the log attribute that marks a repeatable failure or its end. Its value
// is the name of the trouble, one of a small set.
const troubleKey = "trouble"

// summaryInterval is the minimum time between two failure lines of one trouble.
const summaryInterval = 30 * time.Second

// troubleHandler is a slog.Handler that limits the lines of repeated failures. It
// prints the first failure, a summary every 30 seconds, and the end, with the count and
// the duration.
//
// Packages need only slog: they log every failure (Warn or Error) and its end (Info) at
// once, with the same troubleKey. They know nothing of this handler; without it, every
// line is printed. The handler is also the single place with the clock, the timers and
// the summary at exit for all packages. Only a package can know that a trouble is over.
//
// Troubles that come and go are limited in the same way: one that begins during a quiet
// interval is printed with the next summary. Integer attributes of failures are counts,
// and the summary contains their sums.
type troubleHandler struct {
	slog.Handler
	known *troubles
}

// troubles are all troubles seen so far, one for each name.
type troubles struct {
	changed chan struct{} // signals that a trouble began or ended; capacity 1
	mu      sync.Mutex    // guards the fields below
	byName  map[string]*trouble
}

// trouble is the state of one trouble, from its first failure on. The mutex of troubles
// guards it.
type trouble struct {
	kind  troubleKind
	open  bool
	told  bool        // a line was printed since it began
	since time.Time   // when it began
	count int         // failures since then
	ended slog.Record // the record of an end that is not printed yet; no message: none

	quiet  *time.Timer // runs during a quiet interval; nil otherwise
	untold int         // failures since the last line
	sums   map[string]int64
	last   slog.Record  // the latest failure
	to     slog.Handler // the handler for last
}

func newTroubleHandler(to slog.Handler) *troubleHandler {
	return &troubleHandler{to, &troubles{changed: make(chan struct{}, 1), byName: map[string]*trouble{}}}
}

// Enabled implements slog.Handler. It returns true from Info on even if the level hides
// such lines, so that the end of a trouble is noticed.
func (h *troubleHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler. The new handler shares the troubles.
func (h *troubleHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &troubleHandler{h.Handler.WithAttrs(attrs), h.known}
}

// WithGroup implements slog.Handler. The new handler shares the troubles.
func (h *troubleHandler) WithGroup(name string) slog.Handler {
	return &troubleHandler{h.Handler.WithGroup(name), h.known}
}

// Handle implements slog.Handler. It prints a record now, with the next summary, or not
// at all.
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

// over records the end of a trouble. It prints the end, unless the beginning is still
// unprinted.
func (t *trouble) over(ctx context.Context, r slog.Record, to slog.Handler) error {
	if !t.open {
		return pass(ctx, to, r)
	}
	t.open = false
	if !t.told {
		t.ended = r.Clone()
		return nil
	}
	t.forget() // the line of the end includes them
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

// tellLocked prints the unprinted failures, and starts a quiet interval. The mutex must
// be held.
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
		_ = k.sumUpLocked(t) // the log itself fails, so the error can't be reported
	})
	err := pass(ctx, t.to, line)
	if t.ended.Message != "" {
		err = t.tellEnd(ctx, t.ended, t.to)
		t.ended = slog.Record{}
	}
	return err
}

// sumUpLocked ends a quiet interval, and prints a summary if there were failures. The
// mutex must be held.
func (k *troubles) sumUpLocked(t *trouble) error {
	t.quiet = nil
	if t.untold == 0 {
		return nil
	}
	return k.tellLocked(context.Background(), t)
}

// flush prints the unprinted failures and ends before the process exits.
func (h *troubleHandler) flush() {
	h.known.mu.Lock()
	defer h.known.mu.Unlock()
	for _, t := range h.known.byName {
		if t.quiet != nil {
			t.quiet.Stop()
		}
		_ = h.known.sumUpLocked(t) // as in tellLocked
	}
}
