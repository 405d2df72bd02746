package testrun

import (
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// markVariable is the environment variable that identifies the processes.
const markVariable = "STARTED_BY_TEST_PROGRAM"

// watcher waits for the end of the test program, and then kills all processes with $1
// in their environment. An input line means that the tests have ended. If the input
// ends without a line, the test program was killed. In that case a new process may not
// have its environment yet, so the watcher searches several times.
const watcher = `if read -r _; then pauses=0; else pauses="0 0.2 1"; fi
for pause in $pauses; do
	sleep "$pause"
	for p in $(grep -lzxF -e "$1" /proc/[0-9]*/environ); do
		p=${p#/proc/}
		kill -KILL "${p%/environ}"
	done
done 2>/dev/null`

// LimitParallel sets -test.parallel to 4, unless the command line sets it. It is for
// TestMain of tests that mostly wait.
func LimitParallel() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "4") // the flag exists in every test program
	}
}

// Run runs the tests and returns their exit status. It is for TestMain.
func Run(tests func() int) (status int) {
	// Tests' processes must not inherit descriptors of this program, such as a lock of
	// its caller.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "prevent test processes from inheriting descriptors:", err)
		return 1
	}
	value := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	watch := exec.Command("sh", "-c", watcher, "sh", markVariable+"="+value)
	for _, v := range os.Environ() { // the watcher must not have the mark itself
		if !strings.HasPrefix(v, markVariable+"=") {
			watch.Env = append(watch.Env, v)
		}
	}
	watch.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it must survive a signal to the process group
	input, err := watch.StdinPipe()
	if err == nil {
		err = watch.Start()
	}
	if err == nil {
		err = os.Setenv(markVariable, value)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the watcher that kills test processes:", err)
		return 1
	}
	defer finish(watch, input)
	return tests()
}

// finish ends the watcher, which first kills the remaining processes.
func finish(watch *exec.Cmd, input io.WriteCloser) {
	_, _ = io.WriteString(input, "ended\n")
	_ = input.Close()
	_ = watch.Wait() // the exit status is that of the last kill
}
