package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// gcFunctions matches the functions at the root of the garbage collector's work, both in
// its own stacks and in those of allocating goroutines.
const gcFunctions = `^runtime\.(gcBgMarkWorker|gcAssistAlloc|gcStart|gcMarkDone|bgsweep|bgscavenge|deductSweepCredit)`

// gcDuring profiles the daemon for some seconds while run loads it. It returns the garbage
// collector's share of the daemon's CPU time, in percent. The runtime's own metric
// includes the time that GC workers wait for a CPU, which distorts it on a busy machine.
func (d *daemon) gcDuring(seconds int, run func() error) (percent float64, err error) {
	profile := filepath.Join(d.dir, "gc.pb.gz")
	recorded := make(chan error, 1)
	go func() {
		recorded <- download(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", d.admin, seconds), profile)
	}()
	err = run()
	if err := errors.Join(err, <-recorded); err != nil {
		return 0, err
	}
	out, err := exec.Command("go", "tool", "pprof", "-top", "-nodefraction=0", "-focus", gcFunctions, profile).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("go tool pprof: %w: %s", err, out)
	}
	share := regexp.MustCompile(`Showing nodes accounting for \S+, ([\d.]+)% of`).FindSubmatch(out)
	if share == nil {
		return 0, fmt.Errorf("go tool pprof: %s", out)
	}
	return strconv.ParseFloat(string(share[1]), 64)
}
