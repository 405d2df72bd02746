package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"collectord/collectord/testrun"
)

// TestMakeRunPrintsItsHintsOnceTheDaemonListens runs the recipe with programs in place of
// the daemon: one that starts, and one whose port is in use.
func TestMakeRunPrintsItsHintsOnceTheDaemonListens(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir+"/Makefile", string(makefile))
	if err := os.Mkdir(dir+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(program string) string {
		if err := testrun.WriteProgram(dir+"/bin/collectord", []byte("#!/bin/sh\n"+program)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("make", "--old-file=build", "run")
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput() // also of a failed start
		return string(out)
	}
	const hint = "curl -H 'Content-Type: application/json' -d '{\"patientId\":\"100\"}' http://localhost:3000/api/usages"
	started := run("echo starting >&2; echo 'msg=\"collectord is running\"' >&2; echo 'x \\y  $z' >&2")
	before, after, ok := strings.Cut(started, "collectord is running")
	if !ok || strings.Contains(before, hint) || !strings.Contains(after, hint) || !strings.Contains(after, "bin/collectord cat --config packaging/run.yaml") {
		t.Errorf("make run prints:\n%s", started)
	}
	if failed := run("echo 'address already in use' >&2; exit 1"); strings.Contains(failed, hint) || !strings.Contains(failed, "address already in use") {
		t.Errorf("make run prints after a failed start:\n%s", failed)
	}
}
