// Command mutate checks whether the simulation of the log detects missing code. It omits
// each sync, each required order of two steps, each record of a loss and each check of
// package wal, one at a time, and runs the simulation.
//
// It compiles all mutants into one test binary per package, and an environment variable
// selects one. For each mutant it prints the seed that fails, or that the mutant survived.
// A surviving mutant must be listed in survivors.txt, with the test that detects it or with
// the reason why it is harmless. Otherwise the exit status is 1.
//
// With -target http it tests packages http1, httpserver and epoll: it omits each check, each
// replacement of state of a request or connection, each deadline, and each step of the event
// loop. It runs each test once without a mutant, to see which mutants the test reaches. Then
// it runs, for each mutant, the tests that reach it, the quickest first, until one fails.
// survivors-http.txt lists the mutants that need not be detected.
//
// -known also tries the mutants that survive for a known reason. -from continues an
// interrupted run.
//
// -keep DIR keeps the test binaries. Each mutant is printed with its number, and a failing
// seed is repeated with one of these commands:
//
//	MUTANT=number GODEBUG=asyncpreemptoff=1 DIR/wal.test -test.run=NoCrash -simulate-seed=SEED -simulate-states=1
//	MUTANT=number GODEBUG=asyncpreemptoff=1 DIR/wal.test -test.run=NoFailedCall/.*/CALL -simulate-seed=SEED -simulate-every=1
package main

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	var o options
	targetName := flag.String("target", "log", "log, or http")
	kinds := flag.String("kinds", "", "kinds of mutants, separated by commas; default: all kinds but guard")
	only := flag.String("only", "", "regular expression: only mutants whose description it matches")
	flag.DurationVar(&o.limit, "limit", time.Minute, "CPU time that the simulation may take for each mutant")
	flag.IntVar(&o.processes, "processes", 0, "how many mutants to try at once; default: one per processor, or three with -target http, since some mutants hang")
	from := flag.Int("from", 1, "number of the first mutant, to continue an interrupted run")
	flag.BoolVar(&o.known, "known", false, "also try mutants that survive for a known reason")
	flag.StringVar(&o.keep, "keep", "", "directory that keeps the test binaries")
	list := flag.Bool("list", false, "only list the mutants")
	flag.Parse()
	t := targets[*targetName]
	if t == nil {
		fmt.Fprintln(os.Stderr, "mutate: -target is log or http")
		os.Exit(2)
	}
	if *kinds == "" {
		*kinds = t.kinds
	}
	if o.processes == 0 {
		o.processes = t.perProcessor * runtime.NumCPU()
	}
	if err := t.mutate(os.Stdout, o, *list, func(m mutant) bool {
		return m.n >= *from && slices.Contains(strings.Split(*kinds, ","), m.kind) && regexp.MustCompile(*only).MatchString(m.String())
	}); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// target is code to mutate, and the tests that must detect the mutants.
type target struct {
	roots     []string // directories
	kinds     string
	visit     func(*planter, ast.Node) bool
	try       func(*binaries, mutant, time.Duration) outcome
	survivors string
	inPlace   bool // tests run in the directory of their package

	perProcessor int // mutants that are tried concurrently, per CPU
}

var targets = map[string]*target{
	"log":  {roots: []string{"wal"}, kinds: "sync,order,loss,check", visit: (*planter).visitLog, try: (*binaries).simulate, survivors: survivors, perProcessor: 1},
	"http": {roots: []string{"collectord/http1", "collectord/httpserver", "collectord/epoll"}, kinds: "check,reset,deadline,step", visit: (*planter).visitHTTP, try: (*binaries).tryEach, survivors: survivorsHTTP, inPlace: true, perProcessor: 3},
}

type options struct {
	limit     time.Duration
	processes int
	known     bool
	keep      string
}

// outcome is the result for one mutant.
type outcome struct {
	killed bool
	by     string
	took   time.Duration
}

func (t *target) mutate(w io.Writer, o options, list bool, wanted func(mutant) bool) error {
	dir, err := workDir(o.keep)
	if err != nil {
		return err
	}
	if o.keep == "" {
		defer os.RemoveAll(dir)
	}
	mutants, overlay, err := t.plant(dir)
	if err != nil {
		return err
	}
	known, err := readSurvivors(t.survivors, mutants)
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(mutants, func(m mutant) bool { return !wanted(m) })
	if list {
		for _, m := range chosen {
			fmt.Fprintln(w, m)
		}
		return nil
	}
	b := &binaries{target: t, dir: dir}
	if err := b.build(overlay); err != nil {
		return err
	}
	if err := b.checkUnchanged(chosen, known, o); err != nil {
		return err
	}
	var (
		mu         sync.Mutex
		all        sync.WaitGroup
		next       = make(chan mutant)
		alive, old int
	)
	for range o.processes {
		all.Go(func() {
			for m := range next {
				s, ok := known[m.String()]
				var found outcome
				switch {
				case s.test != "":
					found = b.test(s.test, m)
				case ok && !o.known:
					found.by = "not tried"
				default:
					found = t.try(b, m, o.limit)
				}
				mu.Lock()
				switch {
				case found.killed:
					fmt.Fprintf(w, "%3d killed    %5.1fs  %s  by %s\n", m.n, found.took.Seconds(), m, found.by)
				case ok && s.test == "":
					old++
					fmt.Fprintf(w, "%3d survived  %5.1fs  %s  (%s; %s)\n", m.n, found.took.Seconds(), m, found.by, s.reason)
				default:
					alive++
					fmt.Fprintf(w, "%3d SURVIVED  %5.1fs  %s  (%s)\n", m.n, found.took.Seconds(), m, found.by)
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
		return errors.New("a mutant survived: add a test that detects it, or list it as a survivor with the reason why it is harmless")
	}
	return nil
}

func workDir(keep string) (string, error) {
	if keep == "" {
		return os.MkdirTemp("", "mutate")
	}
	dir, err := filepath.Abs(keep)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	return dir, err
}

// rounds are runs of the simulation. Each has more seeds than the round before, and other
// ones. Runs in which calls of the disk fail detect other mutants than runs in which the
// host only crashes.
const (
	crashes = "NoCrashLoses|ACrashLeaves"
	calls   = "NoFailedCall"
)

var rounds = [][]string{
	{"-test.run=" + crashes, "-simulate-states=4000"},
	{"-test.run=" + calls, "-simulate-every=9"},
	{"-test.run=" + crashes, "-simulate-seed=1000", "-simulate-states=40000"},
	{"-test.run=" + calls, "-simulate-seed=1000", "-simulate-every=3", "-simulate-recorded=2"},
	{"-test.run=" + crashes, "-simulate-seed=10000", "-simulate-states=1000000"},
}

var (
	seedOf   = regexp.MustCompile(`seed (\d+) \(`)
	lifeOf   = regexp.MustCompile(`=== RUN +\S+/(\S+)`)
	countOf  = regexp.MustCompile(`^\d+ (calls, \d+ )?states$`) // log lines of a test that passed
	reasonOf = regexp.MustCompile(`(?m)^ *(?:simc|siml|salvage_split)\w*_test\.go:\d+: (.*)$|^(panic: .*)$|^(fatal error: .*)$|^(SIG\w+: .*)$`)
)

// simulate runs the simulation with a mutant until it fails or limit is over.
func (b *binaries) simulate(m mutant, limit time.Duration) (o outcome) {
	remaining := limit
	for _, args := range rounds {
		if remaining <= 0 {
			break
		}
		out, spent, err := b.run("wal.test", m, limit+10*time.Second, append([]string{"-simulate-for=" + remaining.String()}, args...)...)
		remaining -= spent
		o.took += spent
		if err != nil {
			return outcome{true, failure(out), o.took}
		}
	}
	o.by = b.reached(m)
	return o
}

// failure returns the seed that detected a mutant, and the reason of the failure.
func failure(out string) string {
	life, seed := "", ""
	if all := lifeOf.FindAllStringSubmatch(out, -1); len(all) > 0 {
		life = all[len(all)-1][1]
	}
	if m := seedOf.FindStringSubmatch(out); m != nil && !strings.HasPrefix(life, "seed=") {
		seed = "seed " + m[1] + ", "
	}
	reasonText := "no reason"
	for _, m := range reasonOf.FindAllStringSubmatch(out, -1) {
		reason := m[1] + m[2] + m[3] + m[4]
		if countOf.MatchString(reason) {
			continue
		}
		if reasonText = reason; strings.Contains(reason, "times: ") {
			reasonText = reason[strings.LastIndex(reason, "times: ")+len("times: "):]
		}
		break
	}
	return fmt.Sprintf("%s%s: %.90s", seed, life, reasonText)
}
