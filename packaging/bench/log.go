package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"collectord/wal"
)

// benchLog compares durable appends with the disk itself: one loop that writes and syncs
// the same bytes in the same batches, to a file that grows and to a preallocated one.
func benchLog(rounds, seconds int, name, dir string) error {
	fmt.Printf("\nlog on %s\nappenders  appends/s  batch  disk busy   disk, growing    ratio   disk, in place    ratio\n", name)
	for _, appenders := range []int{1, 16, 64, 256, 1000} {
		var rates, batches, busy, growing, inPlace, ratios, ratiosInPlace []float64
		for range rounds {
			a, err := appendFor(dir, appenders, seconds, wal.Options{})
			if err != nil {
				return err
			}
			rate, batch := a.rate, a.batch
			grow, err := writeFor(dir, a.size, 0, seconds)
			if err != nil {
				return err
			}
			place, err := writeFor(dir, a.size, 64<<20, seconds)
			if err != nil {
				return err
			}
			rates, batches, busy = append(rates, rate), append(batches, batch), append(busy, a.busy)
			growing, inPlace = append(growing, grow*batch), append(inPlace, place*batch)
			ratios, ratiosInPlace = append(ratios, rate/(grow*batch)), append(ratiosInPlace, rate/(place*batch))
		}
		fmt.Printf("%9d %10.0f %6.1f %8.0f %% %15.0f %8.2f %16.0f %8.2f\n", appenders, median(rates), median(batches), 100*median(busy),
			median(growing), median(ratios), median(inPlace), median(ratiosInPlace))
	}
	return benchSealing(rounds, seconds, dir)
}

// benchSealing measures how much the sealing and preparation of segments delays appends.
func benchSealing(rounds, seconds int, dir string) error {
	var often, never []float64
	segments := 0.0
	for range rounds {
		rolling, err := appendFor(dir, 64, seconds, wal.Options{SegmentSize: 4 << 20})
		if err != nil {
			return err
		}
		still, err := appendFor(dir, 64, seconds, wal.Options{SegmentSize: 256 << 20, MaxBytes: 16 << 30})
		if err != nil {
			return err
		}
		often, never, segments = append(often, rolling.slowest), append(never, still.slowest), rolling.seals
	}
	fmt.Printf("64 appenders, p99.9 of an append: %.1f ms while %.0f segments of 4 MiB are filled, %.1f ms in a segment that is never full\n",
		median(often), segments, median(never))
	return nil
}

// appendResult is the result of a run of appends.
type appendResult struct {
	rate  float64 // appends per second
	batch float64 // records per commit
	size  int     // bytes per commit
	busy  float64 // share of the time in write and sync

	slowest float64 // p99.9 of an append, in milliseconds
	seals   float64
}

// appendFor appends for some seconds, while sealed segments are removed immediately.
func appendFor(dir string, appenders, seconds int, o wal.Options) (a appendResult, err error) {
	dir, err = os.MkdirTemp(dir, "log-")
	if err != nil {
		return a, err
	}
	defer os.RemoveAll(dir)
	log, err := wal.Open(dir, o)
	if err != nil {
		return a, err
	}
	stop := time.Now().Add(time.Duration(seconds) * time.Second)
	var failed atomic.Value
	var done sync.WaitGroup
	var mu sync.Mutex
	var all []time.Duration
	began := time.Now()
	for range appenders {
		done.Go(func() {
			rec := []wal.Record{{Usage: []byte(usage)}}
			var latencies []time.Duration
			for now := time.Now(); now.Before(stop); {
				rec[0].ID = wal.ID{}
				if err := log.Append(context.Background(), rec...); err != nil {
					failed.Store(err)
					return
				}
				then := now
				now = time.Now()
				latencies = append(latencies, now.Sub(then))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, latencies...)
		})
	}
	shipped := make(chan struct{})
	go func() { // simulates immediate shipping
		defer close(shipped)
		for {
			segments, more := log.Sealed()
			for _, s := range segments {
				if err := s.Remove(); err != nil {
					failed.Store(err)
				}
			}
			if time.Now().After(stop) {
				return
			}
			select {
			case <-more:
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	done.Wait()
	took := time.Since(began).Seconds()
	<-shipped
	st, g := log.Stats(), log.Ledger()
	n := float64(g.BySource[wal.HTTP].Appended)
	if err, ok := failed.Load().(error); ok {
		return a, err
	}
	slices.Sort(all)
	a = appendResult{
		rate: n / took, batch: n / float64(st.CommitRecords.Count()), busy: st.CommitSeconds.Sum / took,
		size:    int(st.CommitBytes.Sum / float64(st.CommitBytes.Count())),
		slowest: float64(all[len(all)*999/1000].Microseconds()) / 1000, seals: float64(st.Seals["size"]),
	}
	return a, log.Close()
}

// writeFor writes and syncs size bytes repeatedly, and returns the number of writes per
// second. If preallocatedBytes is 0, the file grows.
func writeFor(dir string, size int, preallocatedBytes int64, seconds int) (rate float64, err error) {
	f, err := os.CreateTemp(dir, "raw-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for at := int64(0); at < preallocatedBytes; at += int64(len(chunk)) {
		if _, err := f.WriteAt(chunk, at); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	buf := make([]byte, size)
	n, at := 0, int64(0)
	began := time.Now()
	for time.Since(began) < time.Duration(seconds)*time.Second {
		if preallocatedBytes > 0 && at+int64(size) > preallocatedBytes {
			at = 0
		}
		if _, err := f.WriteAt(buf, at); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		at += int64(size)
		n++
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// journalled mounts an ext4 with default options on a loop device.
func journalled(dir string) (path string, unmount func(), err error) {
	image := filepath.Join(dir, "ext4.image")
	path = filepath.Join(dir, "ext4")
	f, err := os.Create(image)
	if err != nil {
		return "", nil, err
	}
	// Preallocate, so that the underlying file system does not affect the result.
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, 2<<30); err != nil {
		return "", nil, err
	}
	f.Close()
	if err := os.Mkdir(path, 0o755); err != nil {
		return "", nil, err
	}
	for _, c := range [][]string{{"mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image}, {"mount", "-o", "loop", image, path}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return "", nil, fmt.Errorf("%s: %w: %s", c[0], err, out)
		}
	}
	return path, func() { exec.Command("umount", path).Run() }, nil
}
