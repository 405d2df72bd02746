//go:build torture

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startStraced runs the daemon under strace and waits until it is running. Reading some
// files of the log fails with EIO. end stops the daemon with SIGTERM.
func startStraced(t *testing.T, dir, config string, port, admin int, files ...string) (d *daemon, end func()) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-f", "-qq", "-o", filepath.Join(dir, "trace"), "-e", "trace=read,pread64", "-e", "inject=read,pread64:error=EIO"}
	for _, f := range files {
		args = append(args, "-P", filepath.Join(dir, "data", "wal", f))
	}
	d = startCommand(t, exec.Command("strace", append(args, path, "run", "--config", config)...), port, admin)
	return d, func() {
		t.Helper()
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", d.cmd.Process.Pid, d.cmd.Process.Pid))
		pid := 0
		if _, scanErr := fmt.Sscan(string(children), &pid); err != nil || scanErr != nil {
			t.Fatal(err, scanErr)
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := <-d.exited; err != nil {
			t.Fatalf("daemon ended with %v\n%s", err, d.log())
		}
		trace, err := os.ReadFile(filepath.Join(dir, "trace"))
		if err != nil || !bytes.Contains(trace, []byte("(INJECTED)")) {
			t.Errorf("no read failed, so the test proves nothing: %v", err)
		}
	}
}

// TestUnreadableFilesAreReadAgainAfterARestart makes each file of the log unreadable for one
// run of the daemon, and a sealed segment for two.
func TestUnreadableFilesAreReadAgainAfterARestart(t *testing.T) {
	requirePrograms(t, "strace")
	const n, file = 300, "00000000000000000001"
	active := fmt.Sprintf("%020d", 1)
	sealed := fmt.Sprintf("%020d-%020d", 1, n)
	for _, r := range []struct {
		name, file string
		line       string // expected in the log of the first run
		second     string // file that is unreadable in the second run
		lost       bool
	}{
		{"next", "next/" + file, "put aside a prepared segment", "", false},
		{"LOG", "LOG", "rebuilt the log's identity", "", false},
		{"an active segment", active + "/" + file, "can't read the end of a segment", "", false},
		{"a sealed segment", sealed + "/" + file, "can't read a part of a sealed segment", "", false},
		{"a sealed segment, twice", sealed + "/" + file, "can't read a part of a sealed segment", sealed + ".unread/" + file, true},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0}\nshutdown: {drain: 1ms, grace: 2m}\nshipper: {destination: 'file://"+dir+"/archive'}\n")
			acks := &acknowledged{ids: map[int]string{}}
			d := start(t, config, port, admin)
			d.post(acks, 0, n, 4, false)
			d.kill()

			d, end := startStraced(t, dir, config, port, admin, r.file)
			until(t, "the daemon accepts usages: it repeats a failed start", func() bool {
				resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", admin))
				if err == nil {
					resp.Body.Close()
				}
				return err == nil && resp.StatusCode == http.StatusOK
			})
			d.post(acks, n, n+10, 2, false)
			until(t, "the daemon logs the unreadable file: "+r.line, func() bool { return strings.Contains(d.log(), r.line) })
			end()
			if notes := seqRanges(t, dir+"/archive/_collectord/lost/*"); len(notes) > 0 {
				t.Errorf("loss notes before a restart has tried again: %v", notes)
			}

			if strings.HasSuffix(r.name, "segment") || r.lost {
				store := storeOf(t, config)
				for key, err := range store.List(t.Context(), "dt=") {
					if err != nil {
						t.Fatal(err)
					}
					if m, err := store.Stat(t.Context(), key); err != nil || m.ConfirmedBelow > 1 {
						t.Errorf("%s has confirmed_below %d: %v", key, m.ConfirmedBelow, err)
					}
				}
			}

			if r.second != "" {
				d, end = startStraced(t, dir, config, port, admin, r.second)
				until(t, "the loss is noted", func() bool { return strings.Contains(d.log(), "after a restart either") })
				d.post(acks, n+10, n+20, 2, false)
				end()
			} else {
				d = start(t, config, port, admin)
				d.post(acks, n+10, n+20, 2, false)
				d.stop()
			}
			if r.lost {
				if notes := seqRanges(t, dir+"/archive/_collectord/lost/*"); fmt.Sprint(notes) != fmt.Sprintf("[[1 %d]]", n) {
					t.Errorf("noted as lost: %v", notes)
				}
				for i := range n {
					delete(acks.ids, i)
				}
			}
			records, _ := download(t, config)
			verifyAcknowledged(t, acks, records)
			if out, stderr, status := runCollectord(t, "audit", "--config", config, "--deep", "--from-start"); status != 0 {
				t.Errorf("audit exits with %d: %s%s", status, out, stderr)
			}
		})
	}
}
