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

// mark is the variable by which the processes are found.
const mark = "STARTED_BY_TEST_PROGRAM"

// watcher waits for the end of the test program and kills whatever has $1 in its
// environment. A line says that the tests have ended; the end of the input without
// one, that the program was killed: then what it had just started may have no
// environment yet, and is looked for again.
const watcher = `if read -r _; then pauses=0; else pauses="0 0.2 1"; fi
for pause in $pauses; do
	sleep "$pause"
	for p in $(grep -lzxF -e "$1" /proc/[0-9]*/environ); do
		p=${p#/proc/}
		kill -KILL "${p%/environ}"
	done
done 2>/dev/null`

// ManyAtOnce is for TestMain of tests that wait more than they work: it lets four
// run at once, unless the command line says how many.
func ManyAtOnce() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "4") // there is such a flag in every test
	}
}

// Run is for TestMain: it runs the tests and returns their exit status.
func Run(tests func() int) (status int) {
	// What this program inherited, such as a lock that its caller holds, is not for
	// what tests start.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "keep descriptors from what tests start:", err)
		return 1
	}
	value := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	watch := exec.Command("sh", "-c", watcher, "sh", mark+"="+value)
	for _, v := range os.Environ() { // the watcher itself has no mark
		if !strings.HasPrefix(v, mark+"=") {
			watch.Env = append(watch.Env, v)
		}
	}
	watch.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives the group's end
	gone, err := watch.StdinPipe()
	if err == nil {
		err = watch.Start()
	}
	if err == nil {
		err = os.Setenv(mark, value)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "watch over what tests start:", err)
		return 1
	}
	defer finish(watch, gone)
	return tests()
}

// finish ends what is left.
func finish(watch *exec.Cmd, gone io.WriteCloser) {
	_, _ = io.WriteString(gone, "ended\n")
	_ = gone.Close()
	_ = watch.Wait() // its status is that of the last kill
}
