package wal

import (
	"bytes"
	"encoding/gob"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"collectord/wal/vfs/simdisk"
)

var (
	simulateWorker = flag.Int("simulate-worker", -1, "part of the simulation that this process does; set by the test itself")
	simulateReport = flag.String("simulate-report", "", "file for what a part of the simulation counted; set by the test itself")
)

// tally counts the simulated events.
type tally struct {
	mu         sync.Mutex
	Seen       map[[16]byte]bool // crash states, by hash
	Counts     map[string]int
	began      time.Time
	wantStates int  // distinct crash states
	keepFound  bool // keep the states that starts find, for a report
}

func newTally() *tally {
	return &tally{Seen: map[[16]byte]bool{}, Counts: map[string]int{}, began: time.Now(), keepFound: *simulateStates < 100}
}

func (c *tally) add(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Counts[what] += n
}

// cpuTime returns the CPU time of this process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // can't fail for the own process
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stateOf identifies the state of a disk.
func stateOf(d *simdisk.Disk) [16]byte {
	h := d.Hash()
	return [16]byte(h[:16])
}

// isNew reports whether a crash state is seen for the first time.
func (c *tally) isNew(key [16]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Seen[key] {
		return false
	}
	c.Seen[key] = true
	return true
}

// countFailedCall counts a call that failed or hung.
func (c *tally) countFailedCall(op simdisk.Op, errno syscall.Errno, hang time.Duration) (call string) {
	call = fmt.Sprintf("%s %s", op, unix.ErrnoName(errno))
	if hang > 0 {
		call = strings.TrimSpace(call) + " hang"
	}
	c.add("failed calls: "+call, 1)
	return call
}

func (c *tally) String() string {
	text := fmt.Sprintf("%d distinct crash states", len(c.Seen))
	tables := map[string]map[string][]string{"failed calls": {}, "starts refused": {}, "kinds of lives": {}} // by op
	sums := map[string]int{}
	for _, what := range slices.Sorted(maps.Keys(c.Counts)) {
		n := c.Counts[what]
		table, call, ok := strings.Cut(what, ": ")
		if !ok {
			text += fmt.Sprintf(", %d %s", n, what)
			continue
		}
		sums[table] += n
		op, errno := call, ""
		if at := strings.LastIndex(strings.TrimSuffix(call, " hang"), " "); at > 0 {
			op, errno = call[:at], call[at+1:]+" "
		}
		tables[table][op] = append(tables[table][op], fmt.Sprintf("%s%d", errno, n))
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		if sums[table] == 0 {
			continue
		}
		text += fmt.Sprintf("\n%d %s:", sums[table], table)
		for _, op := range slices.Sorted(maps.Keys(tables[table])) {
			text += fmt.Sprintf("\n  %-16s %s", op, strings.Join(tables[table][op], ", "))
		}
	}
	return text
}

// write writes the counts of a worker process to the file that its parent reads.
func (c *tally) write(t *testing.T) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(c); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*simulateReport, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runProcesses runs this test in several processes at once. The clock of a bubble and
// the source of random numbers, which make a life repeatable, belong to a whole
// process.
func (c *tally) runProcesses(t *testing.T) {
	dir := t.TempDir()
	parts := make([]tally, *simulateProcesses)
	var all sync.WaitGroup
	for i := range parts {
		all.Go(func() {
			report := filepath.Join(dir, fmt.Sprint(i))
			args := []string{"-test.run=^" + t.Name() + "$", "-test.count=1", fmt.Sprintf("-simulate-worker=%d", i), "-simulate-report=" + report}
			flag.Visit(func(f *flag.Flag) {
				if strings.HasPrefix(f.Name, "simulate-") || f.Name == "test.timeout" {
					args = append(args, fmt.Sprintf("-%s=%s", f.Name, f.Value))
				}
			})
			out, err := exec.CommandContext(t.Context(), os.Args[0], args...).CombinedOutput()
			if err != nil {
				t.Errorf("process %d of %d: %v\n%s", i, len(parts), err, out)
				return
			}
			b, err := os.ReadFile(report)
			if err == nil {
				err = gob.NewDecoder(bytes.NewReader(b)).Decode(&parts[i])
			}
			if err != nil {
				t.Errorf("process %d of %d: %v", i, len(parts), err)
			}
		})
	}
	all.Wait()
	for i := range parts {
		maps.Copy(c.Seen, parts[i].Seen)
		for what, n := range parts[i].Counts {
			c.Counts[what] += n
		}
	}
}
