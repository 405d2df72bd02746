package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"collectord/collectord/auth"
	"collectord/config"
	"collectord/wal"
)

// daemonLogger is the daemon's logger, with its level that a reload can change, the
// handler that summarizes repeated failures, and the queue before standard error.
type daemonLogger struct {
	*slog.Logger
	level    *slog.LevelVar
	troubles *troubleHandler
	queue    *logQueue
}

// newDaemonLogger returns a logger that writes to out. With log.format auto it writes
// text to a terminal, and JSON elsewhere.
func newDaemonLogger(cfg config.Log, out fdWriter) (*daemonLogger, error) {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, err
	}
	text := cfg.Format == "text" || cfg.Format == "auto" && isTerminal(out)
	journal := onJournal(out)
	format := func(to io.Writer) slog.Handler {
		o := &slog.HandlerOptions{Level: level, ReplaceAttr: readableAttr(journal)}
		if text {
			return slog.NewTextHandler(to, o)
		}
		return slog.NewJSONHandler(&visibleWriter{out: to}, o) // slog does not escape DEL, C1 and bidi controls
	}
	handler := format
	if journal {
		handler = func(to io.Writer) slog.Handler { return newJournalHandler(to, format) }
	}
	queue := newLogQueue(out, func(message string, lines uint64) []byte {
		var line bytes.Buffer
		r := slog.NewRecord(time.Now(), slog.LevelWarn, message, 0)
		r.AddAttrs(slog.Uint64("lines", lines))
		_ = handler(&line).Handle(context.Background(), r) // a write to a buffer can't fail
		return line.Bytes()
	})
	troubles := newTroubleHandler(handler(queue))
	return &daemonLogger{slog.New(troubles), level, troubles, queue}, nil
}

// close logs the pending summaries, and waits up to logFlushTimeout until the log is
// written.
func (l *daemonLogger) close() {
	l.troubles.flush()
	l.queue.flush(logFlushTimeout)
}

// setLevel sets the level during a reload.
func (l *daemonLogger) setLevel(next *plan) {
	_ = l.level.UnmarshalText([]byte(next.cfg.Log.Level)) // can't fail: the configuration was checked
}

// readableAttr converts durations and Stringers to text, because slog would write them to
// JSON as nanoseconds or structures. withoutTime removes the time, because the journal
// adds its own.
func readableAttr(withoutTime bool) func(groups []string, a slog.Attr) slog.Attr {
	return func(groups []string, a slog.Attr) slog.Attr {
		if withoutTime && a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{}
		}
		switch a.Value.Kind() {
		case slog.KindDuration:
			a.Value = slog.StringValue(a.Value.Duration().String())
		case slog.KindAny:
			if v, ok := a.Value.Any().(fmt.Stringer); ok {
				a.Value = slog.StringValue(fmt.Sprint(v))
			}
		}
		return a
	}
}

// logStart logs the identity of the daemon, its addresses, and the limits that differ
// from the defaults.
func logStart(logger *slog.Logger, cfg *config.Config, file, destination string, listening *listeners, log *wal.Log, policy auth.Policy) {
	logID, run := log.Identity()
	logger.Debug("identity of the log", "log_id", fmt.Sprintf("%016x", logID), "run", fmt.Sprintf("%016x", run))
	var allLimits, changedLimits []any
	for _, s := range cfg.Limits() {
		allLimits = append(allLimits, s.Key, s.Value)
		if s.Value != config.DefaultOf(s.Key) {
			changedLimits = append(changedLimits, s.Key, s.Value)
		}
	}
	logger.Debug("limits in effect", allLimits...)
	if len(changedLimits) > 0 {
		logger.Info("limits that are not the defaults", changedLimits...)
	}
	attrs := []any{
		"version", version, "config", file,
		"http", orOff(addressesOf(listening.http)), "udp", udpAddressesOf(listening.udp), "admin", orOff(addressesOf(listening.admin)), clientsAttr(cfg, &policy),
		"data_dir", cfg.DataDir, "destination", destination, "node", cfg.Node,
	}
	if listening.passed > 0 {
		attrs = append(attrs, "passed_sockets", listening.passed)
	}
	g, s := log.Ledger(), log.Stats()
	recovered := nonZero("recovered", map[string]uint64{
		"usages": g.Recovered, "segments": uint64(s.SealedSegments), "torn_bytes": s.TornBytes, "quarantined": g.Quarantined,
	})
	logger.Info("collectord is running", append(attrs, recovered, nonZero("findings", s.Findings))...)
}

func addressesOf(all []net.Listener) (texts []string) {
	for _, ln := range all {
		texts = append(texts, ln.Addr().String())
	}
	return texts
}

// udpAddressesOf lists each address once, although several sockets may share it.
func udpAddressesOf(all []*net.UDPConn) string {
	var texts []string
	for _, c := range all {
		texts = append(texts, c.LocalAddr().String())
	}
	return orOff(slices.Compact(texts))
}

func orOff(addresses []string) string {
	if len(addresses) == 0 {
		return "off"
	}
	return strings.Join(addresses, ", ")
}

// nonZero returns a group of the values that are not zero. slog omits an empty group.
func nonZero[K ~string, N int64 | uint64](name string, all map[K]N) slog.Attr {
	var attrs []any
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if all[key] != 0 {
			attrs = append(attrs, slog.Any(string(key), all[key]))
		}
	}
	return slog.Group(name, attrs...)
}

// ledgerAttrs returns the counts of all usages of this run, as log attributes.
func ledgerAttrs(g wal.Ledger, began time.Time) []any {
	attrs := []any{"ran", time.Since(began).Round(time.Millisecond)}
	for source, d := range g.BySource {
		if d.Received == 0 {
			continue
		}
		attrs = append(attrs, slog.Group(wal.Source(source).String(),
			"received", d.Received, "accepted", d.Accepted, nonZero("rejected", d.Rejected),
			"appended", d.Appended, "repeated", d.Repeated, nonZero("dropped", d.Dropped), "waiting", d.Waiting))
	}
	return append(attrs, "recovered", g.Recovered, "shipped", g.Shipped, "pending", g.Pending,
		"quarantined", g.Quarantined, "evicted", g.Evicted)
}
