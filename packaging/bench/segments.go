package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal/segment"
)

// benchSegments measures the cost of the segment size, the gain from sharing memory with
// the log library, and a start with a large segment that a crash left unsealed.
func benchSegments(rounds, seconds int, dir string) error {
	dir, err := os.MkdirTemp(dir, "segments-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := benchSizes(rounds, seconds, dir); err != nil {
		return err
	}
	if err := benchSharing(rounds, seconds, dir); err != nil {
		return err
	}
	return benchStart(rounds, dir)
}

var segmentSizes = []int64{8 << 20, 64 << 20, 256 << 20}

func benchSizes(rounds, seconds int, dir string) error {
	rates, ratios, rss := map[int64][]float64{}, map[int64][]float64{}, map[int64][]float64{}
	for range rounds {
		for _, size := range segmentSizes {
			r, err := inChild(jobOptions{Job: "append", Dir: dir, Size: size, Seconds: seconds})
			if err != nil {
				return err
			}
			rates[size], rss[size] = append(rates[size], r.Rate), append(rss[size], r.RSS)
			ratios[size] = append(ratios[size], r.Rate/rates[segmentSizes[0]][len(rates[size])-1])
		}
	}
	fmt.Printf("\nthe log alone, batches of %d usages from %d appenders, by segment size\n", batchUsages, batchConns)
	fmt.Println("segment size       usages/s    ratio        RSS")
	for _, size := range segmentSizes {
		fmt.Printf("%8d MiB %14.0f %8.2f %6.0f MiB\n", size>>20, median(rates[size]), median(ratios[size]), median(rss[size]))
	}
	return nil
}

func benchSharing(rounds, seconds int, dir string) error {
	const batch = 350
	fmt.Printf("\nthe segment writer alone, frames of %d usages, each synced; the log library shares the memory of the usages, or copies it\n", batch)
	fmt.Println("segment size              commits/s    ratio   CPU a commit    ratio   allocations a commit        RSS")
	for _, size := range segmentSizes {
		results := map[bool]map[string][]float64{false: {}, true: {}}
		var faster, cheaper []float64
		for range rounds {
			both := map[bool]jobResult{}
			for _, copying := range []bool{false, true} {
				r, err := inChild(jobOptions{Job: "write", Dir: dir, Size: size, Seconds: seconds, Copying: copying, Batch: batch})
				if err != nil {
					return err
				}
				for name, v := range map[string]float64{"rate": r.Rate, "cpu": r.CPU * 1e6, "allocations": r.Allocations, "rss": r.RSS} {
					results[copying][name] = append(results[copying][name], v)
				}
				both[copying] = r
			}
			faster, cheaper = append(faster, both[false].Rate/both[true].Rate), append(cheaper, both[false].CPU/both[true].CPU)
		}
		for _, copying := range []bool{false, true} {
			name, ratios := "sharing", [2]float64{median(faster), median(cheaper)}
			if copying {
				name, ratios = "copying", [2]float64{1, 1}
			}
			r := results[copying]
			fmt.Printf("%8d MiB %s %14.0f %8.2f %11.0f us %8.2f %22.3f %6.0f MiB\n", size>>20, name,
				median(r["rate"]), ratios[0], median(r["cpu"]), ratios[1], median(r["allocations"]), median(r["rss"]))
		}
	}
	return nil
}

// benchStart compares a start with an unsealed segment of 256 MiB with reading its file
// sequentially. The page cache is empty for both.
func benchStart(rounds int, dir string) error {
	const size = 256 << 20
	fmt.Println("\na start with an unsealed segment of 256 MiB, compared with reading its file, from disk")
	fmt.Println("usages a frame     usages   reading    start   start - reading   CPU of the start        RSS")
	for _, o := range []jobOptions{{Batch: 1, Fill: size - 1<<20}, {Batch: 350, Fill: size - 1<<20}, {Batch: 1, Fill: 1 << 20}} {
		var reading, starting, more, cpu, rss []float64
		usages := 0.0
		for range rounds {
			o.Job, o.Dir, o.Size = "leave", filepath.Join(dir, "start"), size
			if _, err := inChild(o); err != nil {
				return err
			}
			file := filepath.Join(o.Dir, "wal", segment.ActiveName(1), segment.FileName)
			read, err := readFromDisk(file)
			if err == nil {
				err = evictFile(file)
			}
			if err != nil {
				return err
			}
			r, err := inChild(jobOptions{Job: "start", Dir: o.Dir})
			if err != nil {
				return err
			}
			usages = r.Rate
			reading, starting, more = append(reading, read), append(starting, r.Seconds), append(more, r.Seconds-read)
			cpu, rss = append(cpu, r.CPU), append(rss, r.RSS)
			if err := os.RemoveAll(o.Dir); err != nil {
				return err
			}
		}
		fmt.Printf("%14d %10.0f %7.2f s %6.2f s %15.2f s %16.2f s %6.0f MiB\n", o.Batch, usages,
			median(reading), median(starting), median(more), median(cpu), median(rss))
	}
	return nil
}

// readFromDisk reads a file from disk and returns the duration in seconds.
func readFromDisk(path string) (seconds float64, err error) {
	if err := evictFile(path); err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	began := time.Now()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return time.Since(began).Seconds(), err
}

// evictFile removes a file from the page cache.
func evictFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
