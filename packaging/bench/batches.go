package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"collectord/collectord/send"
	"collectord/wal"
)

const (
	batchUsages = 1000
	batchConns  = 16
)

// benchBatches measures arrays and NDJSON of 1,000 usages, and compares them with the log
// alone for the same batches. For compressed bodies it also compares with the decoders
// alone.
func benchBatches(rounds, seconds int, binary, dir string) error {
	dir = filepath.Join(dir, "batches")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d, err := startDaemon(binary, dir, "wal: {max_bytes: 32GiB, min_free: 1GiB, when_full: drop_oldest}\nshutdown: {grace: 0s}\n")
	if err != nil {
		return err
	}
	defer d.stop()
	fmt.Printf("\nbatches of %d usages, %d connections, collectord send\n", batchUsages, batchConns)
	fmt.Println("body               usages/s        p99      GC   decoded MB/s    the log alone   ratio (aim 0.60)    decoder alone   ratio")
	for _, lines := range []bool{false, true} {
		rows := []*batchRow{{}, {coding: "gzip"}, {coding: "zstd"}}
		for _, row := range rows {
			row.flags = batchFlags(lines, row.coding)
			if row.bodies, err = bodiesOf(binary, append(row.flags, "--count", strconv.Itoa(batchConns*batchUsages))...); err != nil {
				return err
			}
			row.size = float64(len(rows[0].bodies[0])) // all generated usages have the same size
		}
		for range rounds {
			log, err := appendBatches(dir, seconds, wal.Options{MaxBytes: 64 << 30})
			if err != nil {
				return err
			}
			plain := 0.0
			for _, row := range rows {
				if err := row.measure(d, seconds, log, &plain); err != nil {
					return err
				}
			}
		}
		for _, row := range rows {
			row.print(map[bool]string{false: "array", true: "NDJSON"}[lines])
		}
	}
	rss, err := d.rss()
	if err != nil {
		return err
	}
	fmt.Printf("decoder ratio: MB/s of the row, divided by what the plain row would reach if each MB also took the CPU time of the decoder\nRSS of the daemon: %.0f MiB\n", rss)
	return nil
}

// batchRow is one row of the table, with the results of each round.
type batchRow struct {
	coding string
	flags  []string
	bodies [][]byte
	size   float64 // of a decoded body

	rates, p99, gcs, logs, alone []float64
	ratios, decoding             ratios
}

// measure does one round. The plain row must run first and stores its speed in plain. The
// other rows compare their speeds with it.
func (row *batchRow) measure(d *daemon, seconds int, log float64, plain *float64) error {
	var a send.Summary
	gc, err := d.gcDuring(seconds, func() (err error) {
		a, err = runSend(d.cmd.Path, seconds, append(row.flags, d.url, "--connections", strconv.Itoa(batchConns))...)
		if err == nil && a.Latency == nil {
			err = errors.New("no request was answered")
		}
		return err
	})
	if err != nil {
		return err
	}
	row.gcs = append(row.gcs, gc)
	speed := a.UsagesPerSecond / batchUsages * row.size / 1e6
	row.rates, row.p99 = append(row.rates, a.UsagesPerSecond), append(row.p99, a.Latency.P99)
	row.logs, row.ratios = append(row.logs, log), append(row.ratios, a.UsagesPerSecond/log)
	if row.coding == "" {
		*plain = speed
		return nil
	}
	alone, err := decodeAlone(row.bodies, row.coding, row.size)
	if err != nil {
		return err
	}
	row.alone, row.decoding = append(row.alone, alone), append(row.decoding, speed/(2/(2 / *plain + 1/alone)))
	return nil
}

func (row *batchRow) print(name string) {
	fmt.Printf("%-12s %14.0f %7.1f ms %5.1f %% %14.0f %16.0f   %-17s", name+" "+row.coding, median(row.rates), median(row.p99), median(row.gcs),
		median(row.rates)/batchUsages*row.size/1e6, median(row.logs), row.ratios)
	if row.coding != "" {
		fmt.Printf(" %10.0f MB/s   %s", median(row.alone), row.decoding)
	}
	fmt.Println()
}

// appendBatches appends the same batches to the log without HTTP, JSON or shipping. It
// returns usages per second.
func appendBatches(dir string, seconds int, o wal.Options) (float64, error) {
	dir, err := os.MkdirTemp(dir, "log-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	log, err := wal.Open(dir, o)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	var n atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for range batchConns {
		wg.Go(func() {
			recs := make([]wal.Record, batchUsages)
			for time.Since(began) < time.Duration(seconds)*time.Second {
				for i := range recs {
					recs[i] = wal.Record{Usage: []byte(usage)}
				}
				if err := log.Append(context.Background(), recs...); err != nil {
					failed.Store(&err)
					return
				}
				n.Add(batchUsages)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(n.Load()) / time.Since(began).Seconds(), nil
}

// batchFlags returns the flags of collectord send for batches that are the same in each
// run.
func batchFlags(lines bool, coding string) []string {
	flags := []string{"--batch", strconv.Itoa(batchUsages), "--seed", "1", "--prepare", strconv.Itoa(batchConns)}
	if lines {
		flags = append(flags, "--ndjson")
	}
	if coding != "" {
		flags = append(flags, "--compress", coding)
	}
	return flags
}

// decodeAlone decodes the bodies on one core and returns MB of decoded data per second.
func decodeAlone(bodies [][]byte, coding string, size float64) (float64, error) {
	if coding == "" {
		return 0, nil
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return 0, err
	}
	defer z.Close()
	var g *gzip.Reader
	buffer := make([]byte, 64<<10)
	n, began := 0, time.Now()
	for ; time.Since(began) < time.Second; n++ {
		var from io.Reader = z
		body := bytes.NewReader(bodies[n%len(bodies)])
		switch {
		case coding == "zstd":
			err = z.Reset(body)
		case g == nil:
			g, err = gzip.NewReader(body)
			from = g
		default:
			err = g.Reset(body)
			from = g
		}
		for err == nil {
			_, err = from.Read(buffer)
		}
		if !errors.Is(err, io.EOF) {
			return 0, err
		}
	}
	return float64(n) * size / 1e6 / time.Since(began).Seconds(), nil
}
