package testrun

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram is the environment variable that makes this program a child under test.
const asProgram = "TESTRUN_AS_PROGRAM"

func TestMain(m *testing.M) {
	switch how := os.Getenv(asProgram); how {
	case "":
		os.Exit(m.Run())
	default:
		os.Exit(Run(func() int { return program(how) }))
	}
}

// program starts a child and a grandchild, prints their process ids, and ends or waits to
// be killed.
func program(how string) int {
	c := exec.Command("sh", "-c", `sleep 600 & echo $$ $!; ls -m /proc/$$/fd; wait`)
	out, err := c.StdoutPipe()
	if err != nil || c.Start() != nil {
		return 1
	}
	lines := bufio.NewReader(out)
	for range 2 {
		line, _ := lines.ReadString('\n')
		io.WriteString(os.Stdout, line)
	}
	if how == "ends" {
		return 7
	}
	select {}
}

// TestChildProcessesEndWithTheTestProgram kills one test program and lets another one end,
// while the processes that they started are still running.
func TestChildProcessesEndWithTheTestProgram(t *testing.T) {
	for _, how := range []string{"is killed", "ends"} {
		inherited, err := os.Open("/dev/null") // like a lock of the program that called go test
		if err != nil {
			t.Fatal(err)
		}
		defer inherited.Close()
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), asProgram+"="+how)
		c.ExtraFiles = []*os.File{inherited}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		ids, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		descriptors, err := lines.ReadString('\n')
		if err != nil || strings.TrimSpace(descriptors) != "0, 1, 2" {
			t.Errorf("%s: the process has the descriptors %s, %v", how, descriptors, err)
		}
		if how == "is killed" {
			c.Process.Kill()
		}
		c.Wait()
		if how == "ends" && c.ProcessState.ExitCode() != 7 {
			t.Errorf("it ended with %v", c.ProcessState)
		}
		for _, field := range strings.Fields(ids) {
			id, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(2 * time.Minute); !hasEnded(id); <-time.After(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					syscall.Kill(id, syscall.SIGKILL)
					t.Errorf("%s: process %d still runs", how, id)
					break
				}
			}
		}
	}
}

// hasEnded reports whether a process has ended. A zombie has ended.
func hasEnded(id int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(id) + "/stat")
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}
