package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// test is one test of a binary. It runs alone, in its own process.
type test struct {
	name, binary string
	takes        time.Duration // duration without a mutant
	reaches      map[int]bool  // numbers of the mutants it reaches
	killed       int           // number of mutants it detected; guarded by binaries.mu
}

// rank orders tests: those with a lower rank run earlier. Short tests have a low rank, and
// so do tests that detected many mutants.
func (t *test) rank() float64 { return t.takes.Seconds() / float64(1+t.killed) }

// measure runs each test without a mutant, and every test must pass. It records the
// duration of each test and the mutants that the test reaches: it can detect no others.
func (b *binaries) measure(processes int, limit time.Duration) error {
	for _, root := range b.roots {
		binary := filepath.Base(root) + ".test"
		for _, name := range b.names[binary] {
			if !strings.HasPrefix(name, "Benchmark") {
				b.single = append(b.single, &test{name: name, binary: binary})
			}
		}
	}
	var all sync.WaitGroup
	next := make(chan int)
	failed := make([]error, len(b.single))
	for range processes {
		all.Go(func() {
			for i := range next {
				for range 5 { // a test may fail on a busy machine
					if failed[i] = b.single[i].measure(b, i, limit); failed[i] == nil {
						break
					}
				}
			}
		})
	}
	for i := range b.single {
		next <- i
	}
	close(next)
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *test) measure(b *binaries, i int, limit time.Duration) error {
	at := filepath.Join(b.dir, fmt.Sprintf("reaches-%d", i))
	began := time.Now()
	out, _, err := b.runWith([]string{"MUTANT=0", "MUTANT_REACHED=" + at}, t.binary, limit, "-test.run=^"+t.name+"$", "-test.timeout=5m")
	if err != nil {
		return fmt.Errorf("%s fails without a mutant: %s", t.name, failedTest(out))
	}
	t.takes, t.reaches = time.Since(began), map[int]bool{}
	text, err := os.ReadFile(at) //nolint:gosec // a file of this program
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for line := range bytes.FieldsSeq(text) {
		n, err := strconv.Atoi(string(line))
		if err != nil {
			return err
		}
		t.reaches[n] = true
	}
	return nil
}

// reaching returns the tests that reach a mutant, in the order in which they run.
func (b *binaries) reaching(m mutant) (all []*test) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.single {
		if t.reaches[m.n] {
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b *test) int {
		if a.rank() < b.rank() {
			return -1
		}
		return 1
	})
	return all
}

// tryEach runs the tests that reach a mutant one at a time until one fails. A failing test
// is repeated with a longer timeout, since a busy machine may have caused the failure. A
// test that times out is repeated only if no other test fails, or if four tests have timed
// out.
func (b *binaries) tryEach(m mutant, limit time.Duration) (o outcome) {
	reaching := b.reaching(m)
	if len(reaching) == 0 {
		return outcome{by: "not reached"}
	}
	began := time.Now()
	var hung []*test
	for i, t := range reaching {
		reason := b.failureOf(t, m, limit, 2*time.Second+5*t.takes)
		if reason != "" && !isTimeout(reason) {
			reason = b.failureOf(t, m, limit, 10*time.Second+10*t.takes)
		}
		switch {
		case isTimeout(reason):
			hung = append(hung, t)
		case reason != "":
			return b.kill(t, reason, began)
		}
		if len(hung) < 4 && i < len(reaching)-1 {
			continue
		}
		for _, t := range hung {
			if reason := b.failureOf(t, m, limit, 10*time.Second+10*t.takes); reason != "" {
				return b.kill(t, reason, began)
			}
		}
		hung = nil
	}
	return outcome{by: fmt.Sprintf("reached by %d tests", len(reaching)), took: time.Since(began)}
}

func (b *binaries) kill(t *test, reason string, began time.Time) outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	t.killed++
	if reason != t.name {
		reason = t.name + ", " + reason
	}
	return outcome{true, reason, time.Since(began)}
}

// failureOf runs a test with a mutant. It returns what failed, or "".
func (b *binaries) failureOf(t *test, m mutant, limit, timeout time.Duration) string {
	out, _, err := b.run(t.binary, m, limit, "-test.failfast", "-test.run=^"+t.name+"$", "-test.timeout="+timeout.String())
	if err == nil {
		return ""
	}
	return failedTest(out)
}

// isTimeout reports whether a test timed out, or was killed without output.
func isTimeout(reason string) bool {
	return strings.Contains(reason, "test timed out") || reason == noReason
}

const noReason = "no reason"

var failedOf = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)|^(panic: .*|fatal error: .*|SIG\w+: .*)$`)

func failedTest(out string) string {
	if m := failedOf.FindStringSubmatch(out); m != nil {
		return m[1] + m[2]
	}
	return noReason
}
