package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestThePageShowsTheLogLinesOfEachTest(t *testing.T) {
	results, err := parse(strings.NewReader(`=== RUN   TestFullDiskEvictsTheOldest
=== RUN   TestFullDiskEvictsTheOldest/a
    torture_test.go:396: 7 acknowledged | on a full disk
        and another line
--- PASS: TestFullDiskEvictsTheOldest (1.50s)
    --- PASS: TestFullDiskEvictsTheOldest/a (1.00s)
=== RUN   TestAgainstAModel
    model_test.go:1: it is wrong
    model_test.go:2: ` + strings.Repeat("x", 400) + `
--- FAIL: TestAgainstAModel (2.00s)
=== RUN   TestALossyNetworkIsNotMistakenForLostUsages
    torture_test.go:71: no unshare here
--- SKIP: TestALossyNetworkIsNotMistakenForLostUsages (0.00s)
`))
	if err != nil {
		t.Fatal(err)
	}
	text := page(results, time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC))
	for _, want := range []string{
		"ended on 2026-11-27",
		"| 7 acknowledged \\| on a full disk | only evicted usages, noted | 0 | `TestFullDiskEvictsTheOldest` in collectord |",
		"| it is wrong; … | **failed** | **failed** | `TestAgainstAModel` in wal |",
		"| no unshare here | – | – | `TestALossyNetworkIsNotMistakenForLostUsages` in collectord |",
		"| not run | – | – | `TestPowerLossLosesNothingAcknowledged` in collectord |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q: %s", want, text)
		}
	}
}

// TestEachProofIsATestThatTheMakefileRuns finds tests that were renamed.
func TestEachProofIsATestThatTheMakefileRuns(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var patterns []*regexp.Regexp
	for _, m := range regexp.MustCompile(`(?m)^\tgo test .*-run '?([^' ]+)'?|^SIMULATE .*-run '([^']+)'`).FindAllStringSubmatch(string(makefile), -1) {
		patterns = append(patterns, regexp.MustCompile(m[1]+m[2]))
	}
	for _, p := range proofs {
		files, err := filepath.Glob("../../" + p.dir + "/*_test.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", p.dir, err)
		}
		if exec.Command("grep", append([]string{"-q", "func " + p.test + "(t"}, files...)...).Run() != nil {
			t.Errorf("%s has no test %s", p.dir, p.test)
		}
		run := false
		for _, r := range patterns {
			run = run || r.MatchString(p.test)
		}
		if !run {
			t.Errorf("make torture does not run %s", p.test)
		}
	}
}
