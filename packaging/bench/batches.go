package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"collectord/wal"
)

const (
	batchUsages = 1000
	batchConns  = 16
)

// benchBatches measures arrays and NDJSON of 1,000 usages, beside the log alone
// taking the same batches, and compressed beside the decoders alone.
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
	fmt.Printf("\nbatches of %d usages, %d connections, a Go client\n", batchUsages, batchConns)
	fmt.Println("body               usages/s        p99   decoded MB/s    the log alone    ratio   decoder alone    ratio")
	for _, lines := range []bool{false, true} {
		rows := []*batchRow{{}, {coding: "gzip"}, {coding: "zstd"}}
		for _, row := range rows {
			if row.bodies, row.size, err = makeBatches(lines, row.coding); err != nil {
				return err
			}
		}
		for range rounds {
			log, err := appendBatches(dir, seconds)
			if err != nil {
				return err
			}
			plain := 0.0
			for _, row := range rows {
				if err := row.measure(d.url, lines, seconds, log, &plain); err != nil {
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
	fmt.Printf("ratio of a decoder: MB/s of the row, over that of the plain row slowed by the decoder alone on one core of two\nRSS of the daemon: %.0f MiB\n", rss)
	return nil
}

// batchRow is one row of the table, and what each round came to.
type batchRow struct {
	coding string
	bodies [][]byte
	size   float64 // of a body, decoded

	rates, p99, logs, ratios, alone, decoding []float64
}

// measure does one round. The plain row comes first and leaves its speed for the
// others to be compared with.
func (row *batchRow) measure(url string, lines bool, seconds int, log float64, plain *float64) error {
	a, err := postBatches(url, row.bodies, lines, row.coding, seconds)
	if err != nil {
		return err
	}
	speed := a.rate * row.size / 1e6
	row.rates, row.p99 = append(row.rates, a.rate*batchUsages), append(row.p99, a.p99)
	row.logs, row.ratios = append(row.logs, log), append(row.ratios, a.rate*batchUsages/log)
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
	fmt.Printf("%-12s %14.0f %7.1f ms %14.0f %16.0f %8.2f", name+" "+row.coding, median(row.rates), median(row.p99),
		median(row.rates)/batchUsages*row.size/1e6, median(row.logs), median(row.ratios))
	if row.coding != "" {
		fmt.Printf(" %10.0f MB/s %8.2f", median(row.alone), median(row.decoding))
	}
	fmt.Println()
}

// appendBatches hands the log the same batches without HTTP, JSON or shipping,
// and returns usages a second.
func appendBatches(dir string, seconds int) (float64, error) {
	dir, err := os.MkdirTemp(dir, "log-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	log, err := wal.Open(dir, wal.Options{MaxBytes: 64 << 30})
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

// makeBatches makes a body for each connection, and tells their size before
// they are compressed.
func makeBatches(lines bool, coding string) (bodies [][]byte, size float64, err error) {
	random := rand.New(rand.NewPCG(1, 2))
	for range batchConns {
		var b bytes.Buffer
		for i := range batchUsages {
			switch {
			case lines && i > 0:
				b.WriteByte('\n')
			case !lines && i == 0:
				b.WriteByte('[')
			case !lines:
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"patientId":"%d","timestamp":"2026-11-23T08:%02d:%02dZ","medication":"Salbutamol","device":"in-%04d"}`,
				100+random.IntN(900), i/60%60, i%60, random.IntN(10000))
		}
		if !lines {
			b.WriteByte(']')
		}
		size = float64(b.Len())
		var coded bytes.Buffer
		var w io.WriteCloser
		switch coding {
		case "gzip":
			w = gzip.NewWriter(&coded)
		case "zstd":
			if w, err = zstd.NewWriter(&coded); err != nil {
				return nil, 0, err
			}
		default:
			bodies = append(bodies, b.Bytes())
			continue
		}
		w.Write(b.Bytes())
		w.Close()
		bodies = append(bodies, coded.Bytes())
	}
	return bodies, size, nil
}

// decodeAlone decodes the bodies on one core and returns MB/s of what comes out.
func decodeAlone(bodies [][]byte, coding string, size float64) (float64, error) {
	if coding == "" {
		return 0, nil
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return 0, err
	}
	defer z.Close()
	var g *kgzip.Reader
	buffer := make([]byte, 64<<10)
	n, began := 0, time.Now()
	for ; time.Since(began) < time.Second; n++ {
		var from io.Reader = z
		body := bytes.NewReader(bodies[n%len(bodies)])
		switch {
		case coding == "zstd":
			err = z.Reset(body)
		case g == nil:
			g, err = kgzip.NewReader(body)
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

// postBatches posts over connections that are kept, with requests made ahead, so
// that the client costs little.
func postBatches(target string, bodies [][]byte, lines bool, coding string, seconds int) (r result, err error) {
	u, err := url.Parse(target)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	defer cancel()
	var mu sync.Mutex
	var all []float64
	var failed error
	var wg sync.WaitGroup
	began := time.Now()
	for _, body := range bodies {
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n", u.Path,
			map[bool]string{false: "application/json", true: "application/x-ndjson"}[lines], len(body))
		if coding != "" {
			head += "Content-Encoding: " + coding + "\r\n"
		}
		request := append([]byte(head+"\r\n"), body...)
		wg.Go(func() {
			own, err := postOver(ctx, u.Host, request)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return r, failed
	}
	if len(all) == 0 {
		return r, fmt.Errorf("nothing was answered")
	}
	slices.Sort(all)
	return result{float64(len(all)) / time.Since(began).Seconds(), all[len(all)*99/100]}, nil
}

func postOver(ctx context.Context, host string, request []byte) (latencies []float64, err error) {
	c, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	for ctx.Err() == nil {
		began := time.Now()
		if _, err := c.Write(request); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusCreated {
			return nil, fmt.Errorf("%s: %s: %w", resp.Status, body, err)
		}
		latencies = append(latencies, float64(time.Since(began).Microseconds())/1000)
	}
	return latencies, nil
}
