package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
)

// TestCatTakesLittleMemoryWhateverIsInTheBucket reads small objects, and objects whose
// zstd windows and lines have the maximum size or more.
func TestCatTakesLittleMemoryWhateverIsInTheBucket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, _, _ := configure(t, dir, "shipper: {destination: 'file://"+dir+"/archive'}\n")
	object := func(lines []byte, window int) []byte {
		enc, err := zstd.NewWriter(nil, zstd.WithWindowSize(window), zstd.WithSingleSegment(false), zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer enc.Close()
		return enc.EncodeAll(lines, nil)
	}
	line := func(size int) []byte {
		text, err := new(bucket.LineEncoder).Append(nil, &bucket.Record{ID: bucket.ID{6: 0x70}, Via: "http", Usage: fmt.Appendf(nil, `{"a":"%s"}`, strings.Repeat("x", size))})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	kinds := [][]byte{
		object(line(1), 1<<20),
		object(line(16<<20-8), 8<<20), // the largest usage
		object(bytes.Repeat(line(1000), 20_000), 8<<20),
		object(bytes.Repeat([]byte("x"), 100<<20), 8<<20), // an endless line
		object(line(1), 1<<20),
	}
	for i := range 25 {
		k := bucket.Key{Node: "n", LogID: 1, Run: 2, FirstSeq: uint64(i*100_000 + 1), LastSeq: uint64(i*100_000 + 20_000), Hour: 490_000}
		path := filepath.Join(dir, "archive", k.String())
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, kinds[i%len(kinds)], 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := command(t, "cat", "--config", config)
	lines := outputMeter{pid: func() int { return cmd.Process.Pid }}
	var stderr bytes.Buffer

	cmd.Stdout, cmd.Stderr = &lines, &stderr
	_ = cmd.Run() // its status is checked below
	if status := cmd.ProcessState.ExitCode(); status != 2 || lines.lines != 5*(1+1+20_000+1) || !strings.Contains(stderr.String(), "5 objects are damaged") || !strings.Contains(stderr.String(), "a line is longer than") {
		t.Errorf("cat exits with %d after %d lines: %s", status, lines.lines, stderr.String())
	}
	if lines.peakMiB == 0 || lines.peakMiB > 64 {
		t.Errorf("cat took %d MiB", lines.peakMiB)
	}
	t.Logf("cat took %d MiB", lines.peakMiB)
}

// outputMeter counts the lines that a process prints. Meanwhile it reads the peak memory of
// the process. The peak that wait(2) returns includes the parent's.
type outputMeter struct {
	pid            func() int
	lines, peakMiB int
	writes         int
}

func (p *outputMeter) Write(text []byte) (int, error) {
	p.lines += bytes.Count(text, []byte("\n"))
	if p.writes++; p.writes%16 == 0 || len(text) < 16<<10 {
		// The process may have ended before its output is read here.
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
		_, after, _ := strings.Cut(string(status), "VmHWM:")
		kib := 0
		_, _ = fmt.Sscan(after, &kib) // kib stays 0 if the process has ended
		p.peakMiB = max(p.peakMiB, kib/1024)
	}
	return len(text), nil
}
