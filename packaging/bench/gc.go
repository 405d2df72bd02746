package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// gcFunctions are at the root of what the garbage collector does, in stacks of its own and
// of those that allocate.
const gcFunctions = `^runtime\.(gcBgMarkWorker|gcAssistAlloc|gcStart|gcMarkDone|bgsweep|bgscavenge|deductSweepCredit)`

// gcDuring profiles the daemon for some seconds, while something loads it, and returns the
// garbage collector's share of its CPU time, in percent. The runtime's own figure for that
// includes how long its workers wait for a processor, which says little on a busy machine.
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
