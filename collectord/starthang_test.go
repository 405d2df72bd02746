//go:build torture

package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTheDaemonServesWhileTheDiskOfItsStartHangs delays the first call on a directory by
// half a minute on each thread. wal.commit_timeout is a second.
func TestTheDaemonServesWhileTheDiskOfItsStartHangs(t *testing.T) {
	requirePrograms(t, "strace")
	const hang = 30 * time.Second
	for _, c := range []struct {
		name, path string
		refuses    bool // refuses usages meanwhile
		stop       bool // the daemon is stopped meanwhile
	}{
		{"the log, until the daemon is stopped", "wal", true, true},
		{"the lock", "LOCK", true, false},
		{"the loss notes", "wal/lost", true, false},
		{"the spool", "spool", true, false},
		{"the spool, until the daemon is stopped", "spool", true, true},
		{"the archive", "archive/_collectord/tmp", false, false},
		{"the archive, until the daemon is stopped", "archive/_collectord/tmp", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0, commit_timeout: 1s}\nshutdown: {drain: 1ms, grace: 0s}\n")
			acks := &acknowledged{ids: map[int]string{}}
			d := start(t, config, port, admin)
			d.post(acks, 0, 20, 4, false)
			d.kill()

			path, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			hanging := filepath.Join(dir, "data", c.path)
			args := []string{
				"-f", "-qq", "-o", filepath.Join(dir, "trace"), "-P", hanging, "-e", "trace=openat",
				"-e", fmt.Sprintf("inject=openat:delay_enter=%d:when=1", hang.Microseconds()),
			}
			began := time.Now()
			d = startCommand(t, exec.Command("strace", append(args, path, "run", "--config", config)...), port, admin)
			if took := time.Since(began); took > hang {
				t.Fatalf("the daemon serves only after %v: no call hung, or the daemon waited for one", took)
			}
			get := func(url string) (status int, body string) {
				answer, err := http.Get(url)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				text, err := io.ReadAll(answer.Body)
				if err != nil {
					t.Fatal(err)
				}
				return answer.StatusCode, string(text)
			}
			post := func() int {
				answer, err := http.Post(d.url(), "application/json", strings.NewReader(`{"patientId":"1"}`))
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				return answer.StatusCode
			}
			status := post()
			ready, why := get(fmt.Sprintf("http://127.0.0.1:%d/readyz?verbose", admin))
			if c.refuses {
				if status != http.StatusServiceUnavailable || ready != http.StatusServiceUnavailable || !strings.Contains(why, "has not answered") {
					t.Errorf("a post is answered %d, and readyz %d: %s", status, ready, why)
				}
				if !strings.Contains(d.log(), filepath.Base(c.path)) || !strings.Contains(d.log(), "trouble=start") {
					t.Error("the log does not name the path")
				}
			} else if status != http.StatusCreated || ready != http.StatusOK {
				t.Errorf("a post is answered %d, and readyz %d: %s", status, ready, why)
			}
			if !c.stop {
				until(t, "the daemon accepts usages", func() bool { return post() == http.StatusCreated })
			}
			asked := time.Now()
			children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", d.cmd.Process.Pid, d.cmd.Process.Pid))
			pid := 0
			if _, scanErr := fmt.Sscan(string(children), &pid); err != nil || scanErr != nil {
				t.Fatal(err, scanErr)
			}
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			until(t, "the daemon has stopped", func() bool { return strings.Contains(d.log(), "msg=stopped") })
			if took := time.Since(asked); took > hang/2 || c.stop && time.Since(began) > hang {
				t.Errorf("the stop took %v", took)
			}
			<-d.exited // strace waits for the call
			d = start(t, config, port, admin)
			if status := post(); status != http.StatusCreated {
				t.Errorf("a post is answered %d after a restart", status)
			}
			d.stop()
		})
	}
}
