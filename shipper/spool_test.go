package shipper

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestTheReserveFollowsTheLargestSegment(t *testing.T) {
	dir, need := t.TempDir(), int64(100)
	s := openSpool(dir, func() (int64, int64) { return need, 6 << 20 }, slog.New(slog.DiscardHandler))
	for _, step := range []struct{ need, want int64 }{
		{100, minReserveBytes},
		{64 << 10, 128 << 10},
		{5 << 20, 6 << 20},
		{9 << 20, 6 << 20},
		{2 << 20, 6 << 20}, // too small a difference to shrink
		{600 << 10, 1 << 20},
		{0, minReserveBytes},
	} {
		need = step.need
		if err := s.allocateReserve(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, reserveName))
		if err != nil {
			t.Fatal(err)
		}
		room := info.Sys().(*syscall.Stat_t).Blocks * 512
		if info.Size() != step.want || room < step.want || room > step.want+64<<10 {
			t.Errorf("for a segment of %d bytes, the reserve has %d bytes and %d allocated, want %d", need, info.Size(), room, step.want)
		}
	}

	s.reserveBusy <- struct{}{} // the reserve is in use
	need = 1 << 20
	if err := s.allocateReserve(); err != nil || s.reserveBytes.Load() != minReserveBytes {
		t.Errorf("the reserve was resized to %d while in use: %v", s.reserveBytes.Load(), err)
	}
}
