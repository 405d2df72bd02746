package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// benchSegments measures what the size of segments costs, what lending the log
// library its entries saves, and a start over a large segment that a crash left.
func benchSegments(rounds, seconds int, dir string) error {
	dir, err := os.MkdirTemp(dir, "segments-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := benchSizes(rounds, seconds, dir); err != nil {
		return err
	}
	if err := benchLending(rounds, seconds, dir); err != nil {
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
	fmt.Printf("\nthe log alone, batches of %d usages from %d appenders, by the size of its segments\n", batchUsages, batchConns)
	fmt.Println("segment size       usages/s    ratio        RSS")
	for _, size := range segmentSizes {
		fmt.Printf("%8d MiB %14.0f %8.2f %6.0f MiB\n", size>>20, median(rates[size]), median(ratios[size]), median(rss[size]))
	}
	return nil
}

func benchLending(rounds, seconds int, dir string) error {
	const batch = 350
	fmt.Printf("\nthe writer of a segment alone, frames of %d usages, each synced; the log library is lent them, or copies them\n", batch)
	fmt.Println("segment size      commits/s    copying    ratio   allocations a commit    copying        RSS    copying")
	for _, size := range segmentSizes {
		var lent, copying [3][]float64
		var ratios []float64
		for range rounds {
			var both [2]jobResult
			for i := range both {
				r, err := inChild(jobOptions{Job: "write", Dir: dir, Size: size, Seconds: seconds, Copying: i > 0, Batch: batch})
				if err != nil {
					return err
				}
				into := &lent
				if i > 0 {
					into = &copying
				}
				for j, v := range []float64{r.Rate, r.Allocations, r.RSS} {
					into[j] = append(into[j], v)
				}
				both[i] = r
			}
			ratios = append(ratios, both[0].Rate/both[1].Rate)
		}
		fmt.Printf("%8d MiB %14.0f %10.0f %8.2f %22.3f %10.3f %6.0f MiB %6.0f MiB\n", size>>20,
			median(lent[0]), median(copying[0]), median(ratios), median(lent[1]), median(copying[1]), median(lent[2]), median(copying[2]))
	}
	return nil
}

// benchStart measures a start over a segment of 256 MiB that was not sealed, beside
// reading its file from one end to the other, both with nothing of it in memory.
func benchStart(rounds int, dir string) error {
	const size = 256 << 20
	fmt.Println("\na start over a segment of 256 MiB that was not sealed, beside reading its file, from disk")
	fmt.Println("usages a frame     usages   reading    start   start - reading        RSS")
	for _, o := range []jobOptions{{Batch: 1, Fill: size - 1<<20}, {Batch: 350, Fill: size - 1<<20}, {Batch: 1, Fill: 1 << 20}} {
		data := filepath.Join(dir, "start")
		o.Job, o.Dir, o.Size = "leave", data, size
		if _, err := inChild(o); err != nil {
			return err
		}
		var reading, starting, more, rss []float64
		usages := 0.0
		for range rounds {
			file, err := unsealed(filepath.Join(data, "wal"))
			if err != nil {
				return err
			}
			read, err := readFromDisk(file)
			if err != nil {
				return err
			}
			if err := evictFile(file); err != nil {
				return err
			}
			r, err := inChild(jobOptions{Job: "start", Dir: data})
			if err != nil {
				return err
			}
			usages = r.Rate
			reading, starting, more, rss = append(reading, read), append(starting, r.Seconds), append(more, r.Seconds-read), append(rss, r.RSS)
		}
		fmt.Printf("%14d %10.0f %7.2f s %6.2f s %15.2f s %6.0f MiB\n", o.Batch, usages, median(reading), median(starting), median(more), median(rss))
		if err := os.RemoveAll(data); err != nil {
			return err
		}
	}
	return nil
}

// unsealed undoes what a start did to the only segment with records in a log, and
// returns its file.
func unsealed(log string) (file string, err error) {
	entries, err := os.ReadDir(log)
	if err != nil {
		return "", err
	}
	for _, e := range entries { // the first one has the records
		first, _, sealed := strings.Cut(e.Name(), "-")
		path := filepath.Join(log, first)
		switch {
		case !strings.HasPrefix(first, "0"):
		case file != "" || strings.HasSuffix(first, ".gone"):
			err = os.RemoveAll(filepath.Join(log, e.Name()))
		case sealed:
			err = os.Rename(filepath.Join(log, e.Name()), path)
			fallthrough
		default:
			file = filepath.Join(path, strings.Repeat("0", 19)+"1")
		}
		if err != nil {
			return "", err
		}
	}
	return file, os.RemoveAll(filepath.Join(log, "next"))
}

// readFromDisk reads a file from disk and returns how many seconds that took.
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

// evictFile has the kernel forget what it holds of a file.
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
