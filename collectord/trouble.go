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
	troubles *troubles
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
	kind    troubleKind
	open    bool
	printed bool        // a line was printed since it began
	since   time.Time   // when it began
	count   int         // failures since then
	ended   slog.Record // the record of an end that is not printed yet; no message: none

	quietTimer *time.Timer // runs during a quiet interval; nil otherwise
	unprinted  int         // failures since the last line
	sums       map[string]int64
	last       slog.Record  // the latest failure
	handler    slog.Handler // the handler for last
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
	return &troubleHandler{h.Handler.WithAttrs(attrs), h.troubles}
}

// WithGroup implements slog.Handler. The new handler shares the troubles.
func (h *troubleHandler) WithGroup(name string) slog.Handler {
	return &troubleHandler{h.Handler.WithGroup(name), h.troubles}
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
		return forward(ctx, h.Handler, r)
	}
	h.troubles.mu.Lock()
	defer h.troubles.mu.Unlock()
	t := h.troubles.byName[name]
	if failed := r.Level >= slog.LevelWarn; failed != (t != nil && t.open) {
		h.troubles.signal()
	}
	if t == nil {
		t = &trouble{kind: kindOf(name), sums: map[string]int64{}}
		h.troubles.byName[name] = t
	}
	if r.Level < slog.LevelWarn {
		return t.end(ctx, r, h.Handler)
	}
	t.addFailure(r, h.Handler)
	if t.quietTimer != nil {
		return nil
	}
	return h.troubles.printLocked(ctx, t)
}

func (k *troubles) signal() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func forward(ctx context.Context, to slog.Handler, r slog.Record) error {
	if !to.Enabled(ctx, r.Level) {
		return nil
	}
	return to.Handle(ctx, r)
}

func (t *trouble) addFailure(r slog.Record, to slog.Handler) {
	if !t.open && t.ended.Message == "" || t.isOld(r.Time) {
		t.printed, t.since, t.count = false, r.Time, 0
	}
	t.open, t.ended = true, slog.Record{}
	t.count++
	t.unprinted++
	t.last, t.handler = r.Clone(), to
	r.Attrs(func(a slog.Attr) bool {
		if n, ok := integer(a.Value); ok {
			t.sums[a.Key] += n
		}
		return true
	})
}

func integer(v slog.Value) (n int64, ok bool) {
	switch v.Kind() {
	case slog.KindInt64:
		return v.Int64(), true
	case slog.KindUint64:
		return int64(v.Uint64()), true
	}
	return 0, false
}

// end records the end of a trouble. It prints the end, unless the beginning is still
// unprinted.
func (t *trouble) end(ctx context.Context, r slog.Record, to slog.Handler) error {
	if !t.open {
		return forward(ctx, to, r)
	}
	t.open = false
	if !t.printed {
		t.ended = r.Clone()
		return nil
	}
	t.resetCounts() // the line of the end includes them
	return t.printEnd(ctx, r, to)
}

func (t *trouble) printEnd(ctx context.Context, r slog.Record, to slog.Handler) error {
	r = r.Clone()
	r.AddAttrs(slog.Int("times", t.count), slog.String("lasted", r.Time.Sub(t.since).Round(time.Millisecond).String()))
	return forward(ctx, to, r)
}

func (t *trouble) resetCounts() {
	t.unprinted = 0
	clear(t.sums)
}

// printLocked prints the unprinted failures, and starts a quiet interval. The mutex must
// be held.
func (k *troubles) printLocked(ctx context.Context, t *trouble) error {
	line := slog.NewRecord(time.Now(), t.last.Level, t.last.Message, t.last.PC)
	t.last.Attrs(func(a slog.Attr) bool {
		if _, ok := integer(a.Value); ok {
			a.Value = slog.Int64Value(t.sums[a.Key])
		}
		line.AddAttrs(a)
		return true
	})
	if t.unprinted > 1 {
		line.AddAttrs(slog.Int("times", t.unprinted))
	}
	t.resetCounts()
	t.printed = true
	t.quietTimer = time.AfterFunc(summaryInterval, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		_ = k.summarizeLocked(t) // the log itself fails, so the error can't be reported
	})
	err := forward(ctx, t.handler, line)
	if t.ended.Message != "" {
		err = t.printEnd(ctx, t.ended, t.handler)
		t.ended = slog.Record{}
	}
	return err
}

// summarizeLocked ends a quiet interval, and prints a summary if there were failures. The
// mutex must be held.
func (k *troubles) summarizeLocked(t *trouble) error {
	t.quietTimer = nil
	if t.unprinted == 0 {
		return nil
	}
	return k.printLocked(context.Background(), t)
}

// flush prints the unprinted failures and ends before the process exits.
func (h *troubleHandler) flush() {
	h.troubles.mu.Lock()
	defer h.troubles.mu.Unlock()
	for _, t := range h.troubles.byName {
		if t.quietTimer != nil {
			t.quietTimer.Stop()
		}
		_ = h.troubles.summarizeLocked(t) // as in printLocked
	}
}
