//go:build torture

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// vmSlowness is how many times slower the virtual machine may be: it has one processor of 500
// million instructions a second, by its own clock.
const vmSlowness = 2

// TestASmallCgroupOfVersion2Suffices runs
// TestTenThousandConnectionsFitIntoASmallCgroup in a virtual machine, whose cgroups are of
// version 2. There the memory of sockets counts.
func TestASmallCgroupOfVersion2Suffices(t *testing.T) {
	programs := os.Getenv("TEST_VM")
	if _, err := os.Stat(filepath.Join(programs, "bin/busybox")); programs == "" || err != nil {
		skipMissing(t, "virtual machine (TEST_VM: what packaging/tools/build DIR vm makes)")
	}
	dir := t.TempDir()
	for _, args := range [][]string{{"build", "-o", dir + "/collectord", "."}, {"test", "-c", "-tags", "torture", "-o", dir + "/collectord.test", "."}} {
		build := exec.Command("go", args...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	inside := fmt.Sprintf("TEST_COLLECTORD=/tmp/collectord /tmp/collectord.test -test.v -test.timeout 25m -test.run TenThousand -slowness %d", vmSlowness)
	vm := exec.Command("../packaging/vm/run", programs, inside, dir+"/collectord", dir+"/collectord.test")
	out, err := vm.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	vm.Stderr = vm.Stdout
	if err := vm.Start(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		all.WriteString(lines.Text() + "\n")
		if _, logged, ok := strings.Cut(lines.Text(), "connections_test.go:"); ok {
			_, text, _ := strings.Cut(logged, ": ")
			t.Log(text)
		}
	}
	if err := vm.Wait(); err != nil {
		t.Errorf("the virtual machine: %v\n%s", err, all.String())
	}
}
