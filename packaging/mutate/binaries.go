package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// binaries are the compiled test binaries, which contain all mutants.
type binaries struct {
	*target
	dir   string
	tests map[string]string   // test name -> binary
	names map[string][]string // binary -> names of its tests

	mu     sync.Mutex // guards killed of each test in single
	single []*test    // tests that run alone
}

func (b *binaries) build(overlay string) error {
	args := []string{"test", "-vet=off", "-overlay", overlay, "-c", "-o", b.dir + "/"}
	for _, root := range b.roots {
		args = append(args, "./"+root+"/...")
	}
	build := exec.Command("go", args...) //nolint:gosec // fixed arguments
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	all, err := filepath.Glob(filepath.Join(b.dir, "*.test"))
	if err != nil {
		return err
	}
	b.tests, b.names = map[string]string{}, map[string][]string{}
	for _, path := range all {
		names, err := exec.Command(path, "-test.list=.").Output() //nolint:gosec // built above
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for name := range strings.FieldsSeq(string(names)) {
			binary := filepath.Base(path)
			b.tests[name], b.names[binary] = binary, append(b.names[binary], name)
		}
	}
	return nil
}

// checkUnchanged returns an error if a test fails without a mutant.
func (b *binaries) checkUnchanged(chosen []mutant, known map[string]survivor, o options) error {
	roots := b.roots
	if b.inPlace {
		if err := b.measure(o.processes, o.limit); err != nil {
			return err
		}
		roots = nil
	}
	for _, root := range roots {
		if !slices.ContainsFunc(chosen, func(m mutant) bool { return strings.HasPrefix(m.dir, root) }) {
			continue
		}
		if o := b.try(b, mutant{dir: root}, o.limit); o.killed {
			return fmt.Errorf("the simulation fails without a mutant: %s", o.by)
		}
	}
	var tests []string
	for _, m := range chosen {
		if s := known[m.String()]; s.test != "" {
			tests = append(tests, s.test)
		}
	}
	slices.Sort(tests)
	for _, test := range slices.Compact(tests) {
		if b.tests[test] == "" {
			return fmt.Errorf("survivors: there is no test %s", test)
		}
		if o := b.test(test, mutant{}); o.killed {
			return fmt.Errorf("%s fails without a mutant", test)
		}
	}
	return nil
}

// test runs one test with a mutant.
func (b *binaries) test(name string, m mutant) outcome {
	_, took, err := b.run(b.tests[name], m, time.Minute, "-test.run=^"+name+"$", "-test.timeout=1m")
	return outcome{err != nil, name, took}
}

// packageOf returns the directory of the package that a binary tests.
func (b *binaries) packageOf(binary string) string {
	return b.roots[slices.IndexFunc(b.roots, func(root string) bool { return filepath.Base(root)+".test" == binary })]
}

// mark returns the path of a file that the test binary creates when it reaches the mutant.
func (b *binaries) mark(m mutant) string { return filepath.Join(b.dir, fmt.Sprintf("reached-%d", m.n)) }

// reached reports whether a surviving mutant was reached.
func (b *binaries) reached(m mutant) string {
	if _, err := os.Stat(b.mark(m)); err == nil {
		return "reached"
	}
	return "not reached"
}

// run runs a binary with a mutant. It kills the binary when it exceeds limit of CPU time.
func (b *binaries) run(binary string, m mutant, limit time.Duration, args ...string) (out string, spent time.Duration, err error) {
	return b.runWith([]string{fmt.Sprintf("MUTANT=%d", m.n), "MUTANT_REACHED=" + b.mark(m)}, binary, limit, args...)
}

func (b *binaries) runWith(environment []string, binary string, limit time.Duration, args ...string) (out string, spent time.Duration, err error) {
	loop := fmt.Sprintf(`ulimit -t %d && exec "$0" "$@"`, int(limit.Seconds()))
	cmd := exec.Command("sh", append([]string{"-c", loop, filepath.Join(b.dir, binary), "-test.v", "-test.timeout=1h"}, args...)...) //nolint:gosec // built above
	cmd.Env = append(os.Environ(), environment...)
	cmd.Dir = b.dir
	if b.inPlace {
		cmd.Dir = b.packageOf(binary)
	} else { // preemption would make the simulation nondeterministic
		cmd.Env = append(cmd.Env, "GODEBUG=asyncpreemptoff=1")
	}
	text, err := cmd.CombinedOutput()
	return string(text), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), err
}
