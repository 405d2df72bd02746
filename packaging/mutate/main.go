// Command mutate finds out whether the simulation of the log would notice if
// something were missing: it takes out each sync, each step that has to come before
// another, each note of a loss and each check of package wal, one at a time, and
// runs the simulation.
//
// It compiles all mutants into one test binary, in a temporary directory, and has
// an environment variable choose. For each it prints the seed that fails, or that
// the mutant survived. One that survives must be in survivors.txt, with the reason
// why it can't matter; otherwise the exit status is 1.
package main

import (
	"bufio"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed survivors.txt
var survivors string

func main() {
	kinds := flag.String("kinds", "sync,order,loss,check", "what to take out, with commas")
	only := flag.String("only", "", "regular expression: only mutants whose description it matches")
	limit := flag.Duration("limit", time.Minute, "CPU time that the simulation may take for each")
	processes := flag.Int("processes", runtime.NumCPU(), "how many to try at once")
	list := flag.Bool("list", false, "only list the mutants")
	flag.Parse()
	if err := mutate(os.Stdout, strings.Split(*kinds, ","), *only, *limit, *processes, *list); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// outcome is what came of a mutant.
type outcome struct {
	killed bool
	by     string
	took   time.Duration
}

func mutate(w io.Writer, kinds []string, only string, limit time.Duration, processes int, list bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	mutants, overlay, err := plant("wal", dir)
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(mutants), func(m mutant) bool {
		return !slices.Contains(kinds, m.kind) || !match.MatchString(m.String())
	})
	if list {
		for _, m := range chosen {
			fmt.Fprintln(w, m)
		}
		return nil
	}
	binary := filepath.Join(dir, "wal.test")
	build := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-c", "-o", binary, "./wal")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	if o := simulate(binary, mutant{}, limit); o.killed {
		return fmt.Errorf("the simulation fails without a mutant: %s", o.by)
	}
	known, err := reasons(survivors)
	if err != nil {
		return err
	}
	var (
		mu         sync.Mutex
		all        sync.WaitGroup
		next       = make(chan mutant)
		alive, old int
	)
	for range processes {
		all.Go(func() {
			for m := range next {
				o := simulate(binary, m, limit)
				mu.Lock()
				switch reason, ok := known[m.String()]; {
				case o.killed:
					fmt.Fprintf(w, "killed    %5.1fs  %s  by %s\n", o.took.Seconds(), m, o.by)
				case ok:
					old++
					fmt.Fprintf(w, "survived  %5.1fs  %s  (%s; %s)\n", o.took.Seconds(), m, o.by, reason)
				default:
					alive++
					fmt.Fprintf(w, "SURVIVED  %5.1fs  %s  (%s)\n", o.took.Seconds(), m, o.by)
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range chosen {
		next <- m
	}
	close(next)
	all.Wait()
	fmt.Fprintf(w, "%d mutants: %d killed, %d survived for a known reason, %d survived\n", len(chosen), len(chosen)-old-alive, old, alive)
	if alive > 0 {
		return errors.New("a mutant survived: have the simulation notice it, or add the reason why it can't matter to survivors.txt")
	}
	return nil
}

// rounds are runs of the simulation, each with more and other seeds than before.
// Those that fail calls find other mutants than those that only crash.
var rounds = [][]string{
	{"-test.run=NoCrash", "-simulate-states=4000"},
	{"-test.run=NoFailedCall", "-simulate-every=9"},
	{"-test.run=NoCrash", "-simulate-seed=1000", "-simulate-states=40000"},
	{"-test.run=NoFailedCall", "-simulate-seed=1000", "-simulate-every=3", "-simulate-recorded=2"},
	{"-test.run=NoCrash", "-simulate-seed=10000", "-simulate-states=1000000"},
}

var (
	seedOf   = regexp.MustCompile(`seed (\d+) \(`)
	lifeOf   = regexp.MustCompile(`=== RUN +\S+/(\S+)`)
	reasonOf = regexp.MustCompile(`(?m)^ *sim\w+_test\.go:\d+: (.*)$|^(panic: .*)$|^(fatal error: .*)$|^(SIG\w+: .*)$`)
)

// simulate runs the simulation with a mutant until it fails or time is up.
func simulate(binary string, m mutant, limit time.Duration) (o outcome) {
	reached := "not reached"
	mark := filepath.Join(filepath.Dir(binary), fmt.Sprintf("reached-%d", m.n))
	left := limit
	for _, args := range rounds {
		if left <= 0 {
			break
		}
		// What never ends is killed after a time of the CPU, too.
		loop := fmt.Sprintf(`ulimit -t %d && exec "$0" "$@"`, int((limit + 10*time.Second).Seconds()))
		args := append([]string{"-c", loop, binary, "-test.v", "-test.timeout=1h", "-simulate-for=" + left.String()}, args...)
		run := exec.Command("sh", args...) //nolint:gosec // built above
		run.Env = append(os.Environ(), fmt.Sprintf("MUTANT=%d", m.n), "MUTANT_REACHED="+mark)
		run.Dir = filepath.Dir(binary)
		out, err := run.CombinedOutput()
		spent := run.ProcessState.UserTime() + run.ProcessState.SystemTime()
		left -= spent
		o.took += spent
		if _, gone := os.Stat(mark); gone == nil {
			reached = "reached"
		}
		if err != nil {
			return outcome{true, failure(string(out)), o.took}
		}
	}
	return outcome{by: reached, took: o.took}
}

// failure says which seed found a mutant, and what was wrong.
func failure(out string) string {
	life, seed := "", ""
	if all := lifeOf.FindAllStringSubmatch(out, -1); len(all) > 0 {
		life = all[len(all)-1][1]
	}
	if m := seedOf.FindStringSubmatch(out); m != nil && !strings.HasPrefix(life, "seed=") {
		seed = "seed " + m[1] + ", "
	}
	what := "no reason"
	if m := reasonOf.FindStringSubmatch(out); m != nil {
		what = m[1] + m[2] + m[3] + m[4]
		if at := strings.LastIndex(what, "times: "); at >= 0 {
			what = what[at+len("times: "):]
		}
	}
	return fmt.Sprintf("%s%s: %.90s", seed, life, what)
}

// reasons reads why mutants may survive: a line with the mutant, and an indented
// one with the reason.
func reasons(text string) (known map[string]string, err error) {
	known = map[string]string{}
	var mutants []string
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "\t"):
			for _, m := range mutants {
				known[m] = strings.TrimSpace(line)
			}
			mutants = nil
		default:
			mutants = append(mutants, line)
		}
	}
	if len(mutants) > 0 {
		return nil, fmt.Errorf("survivors.txt: no reason for %s", mutants[0])
	}
	return known, nil
}
