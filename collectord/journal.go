package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// onJournal reports whether fd is connected to the systemd journal (systemd.exec(5)).
// $JOURNAL_STREAM contains the device and inode of the journal's socket, which differ
// from those of fd after a redirection.
func onJournal(fd fdWriter) bool {
	var st unix.Stat_t
	return unix.Fstat(int(fd), &st) == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// severities maps levels to the priority prefixes of the journal (sd-daemon(3)). Each
// prefix applies from its level up to the next one.
var severities = []struct { //nolint:gochecknoglobals // a constant table
	from   slog.Level
	prefix string
}{{slog.LevelError, "<3>"}, {slog.LevelWarn, "<4>"}, {slog.LevelInfo, "<6>"}, {slog.LevelDebug - 1000, "<7>"}}

// severityOf returns the index in severities for a level.
func severityOf(l slog.Level) int {
	i := 0
	for i < len(severities)-1 && l < severities[i].from {
		i++
	}
	return i
}

// prioritized adds the prefix of a level to each line of a text.
func prioritized(text string, l slog.Level) string {
	prefix := severities[severityOf(l)].prefix
	return prefix + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+prefix) + "\n"
}

// journalHandler adds a priority prefix to each line. It has one handler for each of
// severities.
type journalHandler []slog.Handler

func newJournalHandler(to io.Writer, handler func(io.Writer) slog.Handler) (h journalHandler) {
	for _, s := range severities {
		h = append(h, handler(prefixWriter{s.prefix, to}))
	}
	return h
}

// Enabled implements slog.Handler.
func (h journalHandler) Enabled(ctx context.Context, l slog.Level) bool { return h[0].Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h[severityOf(r.Level)].Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(one slog.Handler) slog.Handler { return one.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (h journalHandler) WithGroup(name string) slog.Handler {
	return h.each(func(one slog.Handler) slog.Handler { return one.WithGroup(name) })
}

func (h journalHandler) each(with func(slog.Handler) slog.Handler) (all journalHandler) {
	for _, one := range h {
		all = append(all, with(one))
	}
	return all
}

// prefixWriter writes a prefix before each write, because slog writes one line at a
// time.
type prefixWriter struct {
	prefix string
	to     io.Writer
}

func (w prefixWriter) Write(line []byte) (int, error) {
	if _, err := w.to.Write(append([]byte(w.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
