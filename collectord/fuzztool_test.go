package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"collectord/collectord/testrun"
)

// TestFuzzingEndsWithItsTimeWithoutFailing runs the fuzzing script of make torture with a
// program in place of go.
func TestFuzzingEndsWithItsTimeWithoutFailing(t *testing.T) {
	dir := t.TempDir()
	const over = "--- FAIL: FuzzKey (10.00s)\n    context deadline exceeded\nFAIL\nexit status 1\nFAIL\tx\t10.0s\n"
	for name, c := range map[string]struct {
		prints string
		status int
		fails  bool
	}{
		"no input fails":            {"PASS\nok  \tx\t10.0s\n", 0, false},
		"the time is over":          {"fuzz: elapsed: 10s\n" + over, 1, false},
		"an input fails":            {"--- FAIL: FuzzKey (3.00s)\n    --- FAIL: FuzzKey (0.00s)\n        x_test.go:1: context deadline exceeded\n    \n    Failing input written to testdata\nFAIL\n", 1, true},
		"an input fails at the end": {strings.Replace(over, "FAIL\nexit", "    Failing input written to testdata\nFAIL\nexit", 1), 1, true},
		"the build fails":           {"# x\nx.go:1: syntax error\nFAIL\tx [build failed]\n", 1, true},
	} {
		write(t, dir+"/out", c.prints)
		script := fmt.Sprintf("#!/bin/sh\n[ \"$*\" = 'test ./x -run xxx -fuzz ^FuzzKey$ -fuzztime 10s' ] || exit 3\ncat %s/out\nexit %d\n", dir, c.status)
		if err := testrun.WriteProgram(dir+"/go", []byte(script)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("../packaging/tools/fuzz", "./x", "FuzzKey", "10s")
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if (err != nil) != c.fails || !strings.HasPrefix(string(out), c.prints) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
