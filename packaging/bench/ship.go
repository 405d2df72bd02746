package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// shipBytes is how many bytes of usages each round ships.
const shipBytes = 160 << 20

// benchShip compares shipping to a folder with the compressor alone, on the same lines
// with the same settings and one core each. It also measures how many bytes ids cost.
//
// Shipping reads the log and verifies every checksum, builds and hashes the lines,
// compresses them, writes them twice (spool and folder), syncs and removes.
func benchShip(rounds int, dir string) error {
	debug.SetMemoryLimit(memoryLimit) // as in the daemon
	defer debug.SetMemoryLimit(-1)
	dir = filepath.Join(dir, "ship")
	fmt.Println("\nshipping to a folder, one upload at a time, compared with the compressor alone on the same lines")
	fmt.Println("usages       records   lines  lines MB/s   zstd alone    ratio  object/lines   zstd -3    ratio   id, bytes")
	for _, kind := range []struct {
		name string
		make func(i int) []byte
	}{
		{"all alike", func(int) []byte { return []byte(usage) }},
		{"real ones", realUsage},
	} {
		var ours, alone, ratios []float64
		var last shipResult
		for range rounds {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			s, err := shipOnce(dir, kind.make)
			if err != nil {
				return err
			}
			if s.alone, err = compressAlone(filepath.Join(dir, "archive")); err != nil {
				return err
			}
			ours, alone, ratios = append(ours, s.rate), append(alone, s.alone), append(ratios, s.rate/s.alone)
			last = s
		}
		reference, constant, err := last.referenceSizes(filepath.Join(dir, "archive"))
		if err != nil {
			return err
		}
		fmt.Printf("%-9s %10d %4d MB %11.0f %12.0f %8.2f %13.4f %9.4f %8.2f %11.2f\n", kind.name, last.records, last.raw/1e6,
			median(ours), median(alone), median(ratios), float64(last.size)/float64(last.raw), float64(reference)/float64(last.raw),
			float64(last.size)/float64(reference), float64(last.size-constant)/float64(last.records))
	}
	fmt.Println("shipping also verifies every checksum of the log, builds and hashes the lines, writes each object twice,")
	fmt.Println("syncs and removes; if all usages are alike, compressing takes the smallest part of the time")
	return os.RemoveAll(dir)
}

// memoryLimit is the daemon's memory limit with the default configuration, in bytes.
const memoryLimit = 64 << 20

// realUsage returns a usage whose fields vary like those of real devices.
func realUsage(i int) []byte {
	return fmt.Appendf(nil, `{"patientId":"%d","timestamp":"2026-11-23T08:%02d:%02dZ","medication":%q,"device":"in-%05d","flow":%.2f}`,
		rand.IntN(10_000), i/60%60, i%60, []string{"Salbutamol", "Budesonide", "Formoterol"}[rand.IntN(3)], rand.IntN(10_000), rand.Float64()*90)
}

type shipResult struct {
	rate, alone float64 // MB of lines per second
	records     int64
	raw, size   int64
}

// shipOnce fills a log and ships it.
func shipOnce(dir string, usageOf func(int) []byte) (s shipResult, err error) {
	ctx := context.Background()
	log, err := wal.Open(filepath.Join(dir, "data"), wal.Options{Node: "bench", Sync: wal.SyncInterval})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	batch := make([]wal.Record, 500)
	for size, n := 0, 0; size < shipBytes; {
		for i := range batch {
			batch[i] = wal.Record{Usage: usageOf(n)}
			size += len(batch[i].Usage)
			n++
		}
		if err := log.Append(ctx, batch...); err != nil {
			return s, err
		}
	}
	if err := log.Seal(ctx); err != nil {
		return s, err
	}
	store, err := bucket.Open(bucket.Destination{URL: "file://" + filepath.Join(dir, "archive")})
	if err != nil {
		return s, err
	}
	ship, err := shipper.New(log, store, shipper.Options{SpoolDir: filepath.Join(dir, "spool"), Limits: shipper.Limits{Concurrency: 1}})
	if err != nil {
		return s, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	began := time.Now()
	go func() { defer close(done); ship.Run(running) }()
	remaining := ship.Drain(ctx)
	took := time.Since(began).Seconds()
	stop()
	<-done
	if remaining > 0 {
		return s, fmt.Errorf("%d segments were not shipped", remaining)
	}
	st := ship.Stats()
	s.raw, s.size, s.records = int64(st.RawBytes), int64(st.CompressedBytes), int64(log.Ledger().Shipped)
	s.rate = float64(s.raw) / 1e6 / took
	return s, nil
}

// objects calls each with the lines of every object.
func objects(archive string, each func(lines []byte) error) error {
	names, err := filepath.Glob(filepath.Join(archive, "dt=*", "hour=*", "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		dec, err := zstd.NewReader(f)
		if err != nil {
			return err
		}
		lines, err := io.ReadAll(dec)
		dec.Close()
		f.Close()
		if err != nil {
			return err
		}
		if err := each(lines); err != nil {
			return err
		}
	}
	return nil
}

// compressAlone returns the rate of the compressor on the lines of all objects, in MB per
// second. It works in memory, with the shipper's settings.
func compressAlone(archive string) (rate float64, err error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(true))
	if err != nil {
		return 0, err
	}
	var took time.Duration
	total := 0
	var out bytes.Buffer
	err = objects(archive, func(lines []byte) error {
		out.Reset()
		enc.Reset(&out)
		began := time.Now()
		_, err := enc.Write(lines)
		err = errors.Join(err, enc.Close())
		took += time.Since(began)
		total += len(lines)
		return err
	})
	return float64(total) / 1e6 / took.Seconds(), err
}

// referenceSizes returns two sizes of the lines when compressed object by object: by zstd -3, and
// with the shipper's settings but the same id on every line of an object.
func (s shipResult) referenceSizes(archive string) (reference, constant int64, err error) {
	program, err := exec.LookPath("zstd")
	if err != nil {
		return 0, 0, fmt.Errorf("zstd for comparison: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(true))
	if err != nil {
		return 0, 0, err
	}
	err = objects(archive, func(lines []byte) error {
		cmd := exec.Command(program, "-3", "-c")
		cmd.Stdin = bytes.NewReader(lines)
		out, err := cmd.Output()
		if err != nil {
			return err
		}
		reference += int64(len(out))
		var same []byte
		const at = len(`{"id":"`)
		id := string(lines[at : at+36])
		in := bufio.NewScanner(bytes.NewReader(lines))
		for in.Scan() {
			line := in.Bytes()
			copy(line[at:], id)
			same = append(append(same, line...), '\n')
		}
		constant += int64(len(enc.EncodeAll(same, nil)))
		return in.Err()
	})
	return reference, constant, err
}
