package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"collectord/wal"
	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// childFlag makes this program run one of childJobs in its own process, so that only the
// job counts in the peak memory.
const childFlag = "child"

// jobOptions are the options of a job, passed as JSON.
type jobOptions struct {
	Job     string
	Dir     string
	Size    int64 // of a segment
	Seconds int
	Copying bool  // the log library keeps copies
	Batch   int   // usages per frame
	Fill    int64 // bytes of records to leave
}

// jobResult is the result of a job.
type jobResult struct {
	Rate        float64 // usages or commits per second
	Seconds     float64
	CPU         float64 // seconds, of all cores; per commit if Rate is of commits
	Allocations float64 // per commit
	RSS         float64 // MiB, peak
}

var childJobs = map[string]func(jobOptions) (jobResult, error){
	"append": appendJob, "write": writeJob, "leave": leaveJob, "start": startJob,
}

// inChild runs a job in its own process.
func inChild(o jobOptions) (r jobResult, err error) {
	program, err := os.Executable()
	if err != nil {
		return r, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return r, err
	}
	cmd := exec.Command(program, "-"+childFlag, string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%s: %w", text, err)
	}
	return r, json.Unmarshal(out, &r)
}

// runChild runs a job in the process that inChild started, and prints its result.
func runChild(text string) error {
	var o jobOptions
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	job, ok := childJobs[o.Job]
	if !ok {
		return fmt.Errorf("there is no job %q", o.Job)
	}
	r, err := job(o)
	if err != nil {
		return err
	}
	if r.RSS == 0 {
		if r.RSS, err = maxRSS("self"); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// maxRSS returns the peak memory of a process, in MiB.
func maxRSS(pid string) (float64, error) {
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		return 0, errors.New("no VmHWM")
	}
	kb, err := strconv.ParseFloat(string(m[1]), 64)
	return kb / 1024, err
}

// appendJob appends batches to a log from several goroutines.
func appendJob(o jobOptions) (r jobResult, err error) {
	r.Rate, err = appendBatches(o.Dir, o.Seconds, wal.Options{SegmentSize: o.Size, MaxBytes: 64 << 30})
	return r, err
}

// writeJob fills segments one after another, and syncs every frame.
func writeJob(o jobOptions) (r jobResult, err error) {
	newWriter := segment.NewLogWriter
	if o.Copying {
		newWriter = segment.NewCopyingWriter
	}
	disk := vfs.OSDisk()
	commits, allocations, cpu := 0, uint64(0), 0.0
	for began := time.Now(); time.Since(began) < time.Duration(o.Seconds)*time.Second; {
		dir := filepath.Join(o.Dir, "segment")
		w, err := segment.Create(disk, dir, segment.Header{LogID: 1, Run: 2}, segment.Prealloc{Zeros: o.Size}, newWriter)
		if err != nil {
			return r, err
		}
		buf := make([]byte, segment.FrameStart)
		for range o.Batch {
			buf = segment.AppendRecord(buf, &segment.Record{Usage: []byte(usage)})
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		filling, used := time.Now(), cpuSeconds()
		for w.Bytes() < o.Size && time.Since(began) < time.Duration(o.Seconds)*time.Second {
			segment.PutFrame(buf, 1, 2, uint64(commits+1), uint32(o.Batch))
			if err := errors.Join(w.Append(buf), w.Sync()); err != nil {
				return r, err
			}
			commits++
		}
		r.Seconds += time.Since(filling).Seconds()
		cpu += cpuSeconds() - used
		runtime.ReadMemStats(&after)
		allocations += after.Mallocs - before.Mallocs
		if err := errors.Join(w.Close(), os.RemoveAll(dir)); err != nil {
			return r, err
		}
	}
	n := float64(commits)
	r.Rate, r.Allocations, r.CPU = n/r.Seconds, float64(allocations)/n, cpu/n
	return r, nil
}

// cpuSeconds returns the CPU time of this process on all cores.
func cpuSeconds() float64 {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used) // can't fail
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

// leaveJob leaves a log as a crash would, with one segment that contains about Fill bytes.
func leaveJob(o jobOptions) (r jobResult, err error) {
	log, err := wal.Open(o.Dir, wal.Options{SegmentSize: o.Size, Sync: wal.SyncInterval, SealAfter: time.Hour, MaxBytes: 8 << 30})
	if err != nil {
		return r, err
	}
	recs := make([]wal.Record, o.Batch)
	for written := int64(0); ; {
		for i := range recs {
			recs[i] = wal.Record{Usage: []byte(usage)}
		}
		if err := log.Append(context.Background(), recs...); err != nil {
			return r, err
		}
		written += int64(segment.FrameStart + len(recs)*(segment.RecordOverhead+len(usage)))
		if written > o.Fill {
			return r, nil // the log stays open, as in a crash
		}
	}
}

// startJob measures the opening of the log in the directory.
func startJob(o jobOptions) (r jobResult, err error) {
	began := time.Now()
	log, err := wal.Open(o.Dir, wal.Options{})
	if err != nil {
		return r, err
	}
	r.Seconds, r.CPU = time.Since(began).Seconds(), cpuSeconds()
	if r.RSS, err = maxRSS("self"); err != nil {
		return r, err
	}
	r.Rate = float64(log.Ledger().Recovered)
	return r, log.Close()
}
