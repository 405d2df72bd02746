package main

import (
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"collectord/collectord/cgroup"
	"collectord/collectord/httpserver"
	"collectord/config"
)

// The daemon looks at its control group more often when little memory is left. If that
// fails, it logs it, and its end.
func TestTheGroupsMemoryIsLookedAt(t *testing.T) {
	var text strings.Builder
	var m cgroup.Memory
	var failed error
	w := &groupWatch{
		memory: func() (cgroup.Memory, error) { return m, failed },
		web:    httpserver.New(newPendingLog(), httpserver.Options{}), logger: slog.New(slog.NewTextHandler(&text, nil)),
	}
	for _, row := range []struct {
		m      cgroup.Memory
		err    error
		want   time.Duration
		logged string
	}{
		{cgroup.Memory{Limit: math.MaxInt64, Free: math.MaxInt64}, nil, time.Second, ""},
		{cgroup.Memory{Limit: 192 << 20, Free: 180 << 20}, nil, seldomLook, ""},
		{cgroup.Memory{Limit: 192 << 20, Free: 140 << 20}, nil, oftenLook, ""},
		{cgroup.Memory{Limit: 192 << 20, Free: 1 << 20}, nil, oftenLook, ""},
		{cgroup.Memory{}, errors.New("no file"), time.Second, "can't be read: "},
		{cgroup.Memory{Limit: 192 << 20, Free: 180 << 20}, nil, seldomLook, "can be read again"},
	} {
		text.Reset()
		m, failed = row.m, row.err
		if got := w.look(); got != row.want || !strings.Contains(text.String(), row.logged) || (row.logged == "") != (text.Len() == 0) {
			t.Errorf("%+v: looks again after %v, want %v; log: %s", row, got, row.want, text.String())
		}
	}
}

// What connections must leave is what everything else may still take: datagrams, bodies, the
// heap, and files that are not written yet.
func TestConnectionsLeaveWhatTheProcessMayStillTake(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(0)) // the heap may take nothing
	w := &groupWatch{web: httpserver.New(newPendingLog(), httpserver.Options{MaxInFlight: 8 << 20}), unread: 32 << 20}
	if got, want := w.reserve(cgroup.Memory{}), int64(8<<20+32<<20+unwrittenFiles+arriving); got != want {
		t.Errorf("%d, want %d", got, want)
	}
	if got, want := w.reserve(cgroup.Memory{Unwritten: unwrittenFiles}), int64(8<<20+32<<20+arriving); got != want {
		t.Errorf("files are not written: %d, want %d", got, want)
	}
	const more = 1 << 40
	debug.SetMemoryLimit(more)
	if got := w.reserve(cgroup.Memory{Limit: more}); got < more*9/10 || got > more+1<<30 {
		t.Errorf("the heap may take 1 TiB: %d", got)
	}
}

// In a small control group the soft limit is no more than a half of its limit.
func TestTheSoftLimitFitsIntoTheGroup(t *testing.T) {
	cfg, _, err := config.Load(config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int64]int64{math.MaxInt64: daemonMemoryLimit, 128 << 20: 64 << 20, 96 << 20: 48 << 20} {
		if got := goMemoryLimit(cfg, baseConnections, limit); got != want {
			t.Errorf("in %d MiB: %d MiB, want %d", limit>>20, got>>20, want>>20)
		}
	}
}

// The receive buffers of connections fit into the limit of the control group, and a limit
// that is too low for all connections is logged.
func TestReceiveBuffersFitIntoTheGroup(t *testing.T) {
	cfg, _, err := config.Load(config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		limit       int64
		connections int
		want        int
		warns       bool
	}{
		{math.MaxInt64, 10_000, defaultRequestBuffer, false},
		{1 << 30, 10_000, defaultRequestBuffer, false},
		{512 << 20, 10_000, 8 << 10, false},
		{192 << 20, 10_000, minRequestBuffer, true},
		{192 << 20, 1000, 16 << 10, false},
		{64 << 20, 1000, minRequestBuffer, true},
	} {
		var text strings.Builder
		got := requestBuffer(cfg, row.connections, row.limit)
		warnOfGroupMemory(cfg, row.connections, row.limit, slog.New(slog.NewTextHandler(&text, nil)))
		if got != row.want || (text.Len() > 0) != row.warns {
			t.Errorf("%d connections in %d MiB: %d bytes, want %d; log: %s", row.connections, row.limit>>20, got, row.want, text.String())
		}
	}
}
