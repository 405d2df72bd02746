package main

import (
	"errors"
	"log/slog"
	"math"
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
		{cgroup.Memory{Limit: 192 << 20, Free: 100 << 20}, nil, seldomLook, ""},
		{cgroup.Memory{Limit: 192 << 20, Free: 90 << 20}, nil, oftenLook, ""},
		{cgroup.Memory{Limit: 192 << 20, Free: 1 << 20}, nil, oftenLook, ""},
		{cgroup.Memory{}, errors.New("no file"), time.Second, "can't be read: "},
		{cgroup.Memory{Limit: 192 << 20, Free: 100 << 20}, nil, seldomLook, "can be read again"},
	} {
		text.Reset()
		m, failed = row.m, row.err
		if got := w.look(); got != row.want || !strings.Contains(text.String(), row.logged) || (row.logged == "") != (text.Len() == 0) {
			t.Errorf("%+v: looks again after %v, want %v; log: %s", row, got, row.want, text.String())
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
		{512 << 20, 10_000, 12 << 10, false},
		{192 << 20, 10_000, minRequestBuffer, true},
		{192 << 20, 1000, defaultRequestBuffer, false},
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
