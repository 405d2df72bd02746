package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"time"

	"collectord/config"
	"collectord/wal"
)

// daemonLogger is how the daemon speaks: a logger, the level that a reload may change,
// the troubles that are summed up, and the queue before standard error.
type daemonLogger struct {
	*slog.Logger
	level    *slog.LevelVar
	troubles *troubleHandler
	queue    *logQueue
}

// newDaemonLogger writes text for people at a terminal and JSON for everyone else.
func newDaemonLogger(cfg config.Log, out descriptor) (*daemonLogger, error) {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, err
	}
	text := cfg.Format == "text" || cfg.Format == "auto" && isTerminal(out)
	handler := func(to io.Writer) slog.Handler {
		o := &slog.HandlerOptions{Level: level}
		if text {
			return slog.NewTextHandler(to, o)
		}
		return slog.NewJSONHandler(&visibleWriter{out: to}, o) // which leaves DEL, C1 and bidi controls
	}
	queue := newLogQueue(out, func(message string, lines uint64) []byte {
		var line bytes.Buffer
		r := slog.NewRecord(time.Now(), slog.LevelWarn, message, 0)
		r.AddAttrs(slog.Uint64("lines", lines))
		_ = handler(&line).Handle(context.Background(), r) // a buffer takes all
		return line.Bytes()
	})
	troubles := newTroubleHandler(handler(queue))
	return &daemonLogger{slog.New(troubles), level, troubles, queue}, nil
}

// close logs what is yet to be summed up, and waits for the log to be written.
func (v *daemonLogger) close() {
	v.troubles.flush()
	v.queue.flush(logPatience)
}

// setLevel is a part of a reload.
func (v *daemonLogger) setLevel(next *plan) {
	_ = v.level.UnmarshalText([]byte(next.cfg.Log.Level)) // never fails: log.level was checked
}

// logStart tells what has been started.
func logStart(logger *slog.Logger, cfg *config.Config, file, destination string, listening *listeners, log *wal.Log, who slog.Attr) {
	limits := make([]any, 0, 64)
	for _, s := range cfg.Limits() {
		limits = append(limits, s.Key, s.Value)
	}
	logger.Info("limits in effect", limits...)
	logID, run := log.Identity()
	g, s := log.Ledger(), log.Stats()
	logger.Info("collectord is running", "version", version, "config", file,
		"http", addressesOf(listening.http), "udp", udpAddressesOf(listening.udp), "admin", addressesOf(listening.admin), "passed_sockets", listening.passed, who,
		"data_dir", cfg.DataDir, "destination", destination, "node", cfg.Node,
		"log_id", fmt.Sprintf("%016x", logID), "run", fmt.Sprintf("%016x", run),
		slog.Group("recovered", "usages", g.Recovered, "segments", s.SealedSegments,
			"torn_bytes", s.TornBytes, "quarantined", g.Quarantined, "findings", s.Findings))
}

func addressesOf(all []net.Listener) (texts []string) {
	for _, ln := range all {
		texts = append(texts, ln.Addr().String())
	}
	return texts
}

// udpAddressesOf names an address once, however many sockets share it.
func udpAddressesOf(all []*net.UDPConn) (texts []string) {
	for _, c := range all {
		text := c.LocalAddr().String()
		if len(texts) == 0 || texts[len(texts)-1] != text {
			texts = append(texts, text)
		}
	}
	return texts
}

// counted leaves out the reasons that did not occur.
func counted(all map[string]uint64) map[string]uint64 {
	maps.DeleteFunc(all, func(_ string, n uint64) bool { return n == 0 })
	return all
}

// account tells where every usage of this run is.
func account(g wal.Ledger, began time.Time) []any {
	attrs := []any{"ran", time.Since(began).Round(time.Millisecond).String()}
	for source, d := range g.BySource {
		attrs = append(attrs, slog.Group(wal.Source(source).String(),
			"received", d.Received, "accepted", d.Accepted, "rejected", counted(d.Rejected),
			"appended", d.Appended, "repeated", d.Repeated, "dropped", counted(d.Dropped), "waiting", d.Waiting))
	}
	return append(attrs, "recovered", g.Recovered, "shipped", g.Shipped, "pending", g.Pending,
		"quarantined", g.Quarantined, "evicted", g.Evicted)
}
