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

// onJournal reports whether what is written to fd goes to the systemd journal, as
// systemd.exec(5) has it: $JOURNAL_STREAM names the device and inode of the socket, which
// is another one once somebody has redirected the output.
func onJournal(fd descriptor) bool {
	var st unix.Stat_t
	return unix.Fstat(int(fd), &st) == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// severities are the prefixes that the journal takes for priorities (sd-daemon(3)), from
// the level on up to the next.
var severities = []struct { //nolint:gochecknoglobals // a constant table
	from   slog.Level
	prefix string
}{{slog.LevelError, "<3>"}, {slog.LevelWarn, "<4>"}, {slog.LevelInfo, "<6>"}, {slog.LevelDebug - 1000, "<7>"}}

// severityOf is the index of a level.
func severityOf(l slog.Level) int {
	i := 0
	for i < len(severities)-1 && l < severities[i].from {
		i++
	}
	return i
}

// prioritized begins each line of a text with the prefix of a level.
func prioritized(text string, l slog.Level) string {
	prefix := severities[severityOf(l)].prefix
	return prefix + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+prefix) + "\n"
}

// journalHandler begins each line with its priority: it has a handler for each.
type journalHandler []slog.Handler

func newJournalHandler(to io.Writer, handler func(io.Writer) slog.Handler) (h journalHandler) {
	for _, s := range severities {
		h = append(h, handler(prefixWriter{s.prefix, to}))
	}
	return h
}

// Enabled is as slog.Handler has it.
func (h journalHandler) Enabled(ctx context.Context, l slog.Level) bool { return h[0].Enabled(ctx, l) }

// Handle is as slog.Handler has it.
func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h[severityOf(r.Level)].Handle(ctx, r)
}

// WithAttrs is as slog.Handler has it.
func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(one slog.Handler) slog.Handler { return one.WithAttrs(attrs) })
}

// WithGroup is as slog.Handler has it.
func (h journalHandler) WithGroup(name string) slog.Handler {
	return h.each(func(one slog.Handler) slog.Handler { return one.WithGroup(name) })
}

func (h journalHandler) each(with func(slog.Handler) slog.Handler) (all journalHandler) {
	for _, one := range h {
		all = append(all, with(one))
	}
	return all
}

// prefixWriter writes a prefix before what slog writes at a time: a line.
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
