package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
)

// smallObjects is how many objects with few records cat reads from MinIO.
const smallObjects = 10_000

// benchCat compares cat of a folder with zstdcat, and cat of many small objects in a local
// and a remote MinIO with sequential GETs.
func benchCat(rounds int, binary, dir string) error {
	dir = filepath.Join(dir, "cat")
	defer os.RemoveAll(dir)
	if err := benchCatFolder(rounds, binary, dir); err != nil {
		return err
	}
	return benchCatMinIO(rounds, binary, dir)
}

func benchCatFolder(rounds int, binary, dir string) error {
	zstdcat, err := exec.LookPath("zstdcat")
	if err != nil {
		fmt.Println("\ncat of a folder: not measured:", err)
		return nil
	}
	fmt.Println("\ncat of a folder compared with zstdcat, in turn, MB of lines per second")
	fmt.Println("usages       records   lines     cat  zstdcat   ratio   by CPU   peak RSS")
	for _, kind := range []struct {
		name string
		make func(i int) []byte
	}{
		{"all alike", func(int) []byte { return []byte(usage) }},
		{"real ones", realUsage},
	} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		s, err := shipOnce(dir, kind.make)
		if err != nil {
			return err
		}
		archive := filepath.Join(dir, "archive")
		objects, err := filepath.Glob(filepath.Join(archive, "dt=*", "*", "*.ndjson.zst"))
		if err != nil {
			return err
		}
		var ours, theirs, ratios, byCPU []float64
		var peak float64
		for range rounds {
			c, err := runReader(binary, archive, "cat")
			if err != nil {
				return err
			}
			other := exec.Command(zstdcat, objects...)
			began := time.Now()
			if err := other.Run(); err != nil {
				return fmt.Errorf("zstdcat: %w", err)
			}
			wall := time.Since(began)
			cpu := other.ProcessState.UserTime() + other.ProcessState.SystemTime()
			mb := float64(s.raw) / 1e6
			ours, theirs = append(ours, mb/c.wall.Seconds()), append(theirs, mb/wall.Seconds())
			ratios, byCPU, peak = append(ratios, wall.Seconds()/c.wall.Seconds()), append(byCPU, cpu.Seconds()/c.cpu.Seconds()), max(peak, c.rss)
		}
		fmt.Printf("%-9s %10d %4d MB %7.0f %8.0f %7.2f %8.2f %6.0f MiB\n", kind.name, s.records, s.raw/1e6,
			median(ours), median(theirs), median(ratios), median(byCPU), peak)
	}
	return os.RemoveAll(dir)
}

// roundTrips are the round trips of the simulated network before the storage.
var roundTrips = []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond}

func benchCatMinIO(rounds int, binary, dir string) error {
	server, err := startMinIO(dir)
	if err != nil || server == nil {
		return err
	}
	defer server.stop()
	keys, err := putSmallObjects(server)
	if err != nil {
		return err
	}
	fmt.Printf("\ncat of %d small objects in MinIO, compared with sequential GETs that do nothing else\n", len(keys))
	fmt.Println("round trip    cat, s   GETs, s   ratio   CPU, s   of MinIO   peak RSS")
	for _, roundTrip := range roundTrips {
		if err := benchCatAt(rounds, binary, server, keys, roundTrip); err != nil {
			return err
		}
	}
	return nil
}

// benchCatAt measures cat of a MinIO behind a network with this round trip. With a long
// one, all sequential GETs would take minutes, so it makes only a tenth of them.
func benchCatAt(rounds int, binary string, server *minIO, keys []string, roundTrip time.Duration) error {
	options, settings, all := server.options, server.settings, float64(1)
	if roundTrip > 0 {
		proxy, at, err := delay(options.Endpoint, roundTrip)
		if err != nil {
			return err
		}
		defer proxy.stop()
		settings = strings.ReplaceAll(settings, options.Endpoint, at)
		options.Endpoint, keys, all = at, keys[:len(keys)/10], 10
	}
	config := filepath.Join(server.dir, "collectord.yaml")
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		return err
	}
	var walls, gets, ratios, cpus, servers []float64
	var peak float64
	for range rounds {
		one, err := getEach(options, keys)
		if err != nil {
			return err
		}
		before := server.cpu()
		c, err := runCat(binary, config)
		if err != nil {
			return err
		}
		servers, cpus = append(servers, server.cpu()-before), append(cpus, c.cpu.Seconds())
		walls, gets = append(walls, c.wall.Seconds()), append(gets, all*one.Seconds())
		ratios, peak = append(ratios, all*one.Seconds()/c.wall.Seconds()), max(peak, c.rss)
	}
	fmt.Printf("%7d ms %9.2f %9.2f %7.2f %8.2f %10.2f %6.0f MiB\n", roundTrip.Milliseconds(),
		median(walls), median(gets), median(ratios), median(cpus), median(servers), peak)
	return nil
}

// runCat runs cat, discards its output, and checks the number of lines.
func runCat(binary, config string) (r readerRun, err error) {
	cmd := exec.Command(binary, "cat", "--config", config)
	lines := outputCounter{cmd: cmd}
	cmd.Stdout, cmd.Stderr = &lines, os.Stderr
	began := time.Now()
	if err = cmd.Run(); err == nil && lines.n != smallObjects*recordsOfSmall {
		err = fmt.Errorf("cat printed %d lines", lines.n)
	}
	r.wall, r.rss = time.Since(began), lines.rss
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return r, err
}

// outputCounter counts lines and reads the peak memory of a process from /proc. The value
// of wait(2) would include the memory of the parent process before exec.
type outputCounter struct {
	cmd *exec.Cmd
	n   int
	rss float64
}

func (p *outputCounter) Write(text []byte) (int, error) {
	p.n += bytes.Count(text, []byte("\n"))
	if rss, err := maxRSS(strconv.Itoa(p.cmd.Process.Pid)); err == nil { // an error means that the process has exited
		p.rss = rss
	}
	return len(text), nil
}

const recordsOfSmall = 4

// putSmallObjects stores objects of a few records, as hosts with little traffic do.
func putSmallObjects(m *minIO) (keys []string, err error) {
	store, err := bucket.Open(bucket.Destination{URL: "s3://usages", S3: m.options})
	if err != nil {
		return nil, err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	objects := make([]*bucket.Object, smallObjects)
	hour := bucket.HourOf(time.Now()) - 1
	for i := range objects {
		var text []byte
		var lines bucket.LineEncoder
		first := uint64(i*recordsOfSmall + 1)
		for n := range recordsOfSmall {
			id := bucket.ID{6: 0x70, 8: 0x80, 12: byte(i >> 16), 13: byte(i >> 8), 14: byte(i), 15: byte(n)}
			if text, err = lines.Append(text, &bucket.Record{ID: id, ReceivedAt: hour * 3_600_000_000, Via: "http", Usage: realUsage(i)}); err != nil {
				return nil, err
			}
		}
		key := bucket.Key{Node: "bench", LogID: 1, Run: 2, FirstSeq: first, LastSeq: first + recordsOfSmall - 1, Hour: hour}.String()
		objects[i] = bucket.NewObject(key, enc.EncodeAll(text, nil))
		keys = append(keys, key)
	}
	return keys, bucket.Parallel(context.Background(), len(objects), func(i int) error { return store.Put(context.Background(), objects[i]) })
}

// getEach reads every object sequentially, without decoding.
func getEach(options bucket.S3Options, keys []string) (time.Duration, error) {
	store, err := bucket.Open(bucket.Destination{URL: "s3://usages", S3: options})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for _, key := range keys {
		body, _, err := store.Open(context.Background(), key)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, body)
		body.Close()
		if err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}
