package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
)

// benchAudit measures the CPU time of a deep audit of a folder, and compares it with
// decoding and hashing of the same objects alone.
func benchAudit(rounds int, binary, dir string) error {
	dir = filepath.Join(dir, "audit")
	fmt.Println("\ndeep audit of a folder, MB of lines per CPU second, compared with decoding and SHA-256 alone")
	fmt.Println("usages       records   lines   audit  at once, MB/s  peak RSS   alone    ratio")
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
		var audits, walls, bare, ratios []float64
		var peak float64
		for range rounds {
			a, err := runReader(binary, archive, "audit", "--deep", "--json")
			if err != nil {
				return err
			}
			var sum struct {
				Right bool  `json:"right"`
				Raw   int64 `json:"raw_bytes_read"`
			}
			lines := bytes.Split(bytes.TrimSpace(a.out), []byte("\n"))
			if err := json.Unmarshal(lines[len(lines)-1], &sum); err != nil || !sum.Right || sum.Raw != s.raw {
				return fmt.Errorf("audit: %w: %s", err, a.out)
			}
			alone, err := readAlone(archive)
			if err != nil {
				return err
			}
			mb := float64(s.raw) / 1e6
			audits, walls, bare = append(audits, mb/a.cpu.Seconds()), append(walls, mb/a.wall.Seconds()), append(bare, mb/alone.Seconds())
			ratios, peak = append(ratios, alone.Seconds()/a.cpu.Seconds()), max(peak, a.rss)
		}
		fmt.Printf("%-9s %10d %4d MB %7.0f %14.0f %5.0f MiB %7.0f %8.2f\n", kind.name, s.records, s.raw/1e6,
			median(audits), median(walls), peak, median(bare), median(ratios))
	}
	return os.RemoveAll(dir)
}

type readerRun struct {
	out       []byte
	cpu, wall time.Duration
	rss       float64 // MiB, peak
}

// runReader runs a command that reads the archive. It discards the output of cat.
func runReader(binary, archive string, args ...string) (r readerRun, err error) {
	config := filepath.Join(filepath.Dir(archive), "collectord.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "shipper: {destination: 'file://%s'}\n", archive), 0o600); err != nil {
		return r, err
	}
	cmd := exec.Command(binary, append(args, "--config", config)...)
	var out bytes.Buffer
	if cmd.Stderr = os.Stderr; args[0] != "cat" {
		cmd.Stdout = &out
	}
	began := time.Now()
	err = cmd.Run()
	r.wall, r.out = time.Since(began), out.Bytes()
	if err == nil {
		r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		r.rss = rssOf(cmd)
	}
	return r, err
}

// rssOf returns the peak memory of a process that has exited, in MiB.
func rssOf(cmd *exec.Cmd) float64 {
	if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		return float64(u.Maxrss) / 1024
	}
	return 0
}

// readAlone decodes and hashes every object, and returns the CPU time.
func readAlone(archive string) (time.Duration, error) {
	objects, err := filepath.Glob(filepath.Join(archive, "dt=*", "*", "*.ndjson.zst"))
	if err != nil {
		return 0, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return 0, err
	}
	defer dec.Close()
	began, err := cpuTime()
	if err != nil {
		return 0, err
	}
	for _, o := range objects {
		file, err := os.Open(o)
		if err != nil {
			return 0, err
		}
		if err = dec.Reset(file); err == nil {
			_, err = io.CopyBuffer(sha256.New(), struct{ io.Reader }{dec}, make([]byte, 128<<10))
		}
		file.Close()
		if err != nil {
			return 0, err
		}
	}
	ended, err := cpuTime()
	return ended - began, err
}

// cpuTime returns the CPU time of this process so far.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}
