package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"collectord/wal"
)

func statusSituations(situations map[string][]situation) {
	const config = "data_dir: DIR/data\nhttp: {listen: off}\nudp: {listen: off}\nadmin: {listen: 'unix:DIR/admin.sock'}\n"
	situations["status"] = []situation{
		// No daemon answers.
		{name: "no daemon", args: "status", config: config, wantExit: 1, wantOutput: "no daemon runs: none has locked DIR/data (start it with systemctl start collectord, or collectord run; journalctl"},
		{name: "no daemon: where it was asked", args: "status", config: config, wantExit: 1, wantOutput: "admin.listen unix:DIR/admin.sock: dial unix DIR/admin.sock: connect: no such file or directory"},
		{name: "no daemon: check", args: "status --check", config: config, wantExit: 2, wantOutput: "FAILING: no daemon runs: none has locked DIR/data"},
		{name: "no daemon: for programs", args: "status --json --check", config: config, wantExit: 2, wantOutput: `"verdict":"failing","summary":"no daemon runs`},
		{name: "no daemon: only JSON", args: "status --json", config: config, wantExit: 1, wantOutput: "collectord: no daemon runs", unwantedOutput: "verdict"},
		{name: "no daemon: each address", args: "status --admin-listen 127.0.0.1:PORT,127.0.0.1:PORT2", config: config, wantExit: 1, wantOutput: "127.0.0.1:PORT: connect: connection refused; admin.listen 127.0.0.1:PORT2: dial"},
		{name: "no daemon: the wildcard is asked on this host", args: "status --admin-listen 0.0.0.0:PORT", config: config, wantExit: 1, wantOutput: "admin.listen 0.0.0.0:PORT: dial tcp 127.0.0.1:PORT: connect: connection refused"},
		{name: "a daemon that does not answer", args: "status", config: config, setUp: lockDataDir, wantExit: 1, wantOutput: " has locked DIR/data) and does not answer (it hangs, or was started with another admin.listen)"},
		{name: "a daemon that does not answer: check", args: "status --check", config: config, setUp: lockDataDir, wantExit: 2, wantOutput: "FAILING: a daemon runs (process "},
		{name: "a socket that was left", args: "status", config: config, setUp: makeAbandonedSocket, wantExit: 1, wantOutput: "no daemon runs: none has locked DIR/data"},
		{name: "another program", args: "status", config: config, setUp: serveStatus(http.StatusOK, "<html>"), wantExit: 1, wantOutput: "another program, or another version of collectord, answers at unix:DIR/admin.sock: 200 OK"},
		{name: "another program: JSON of another kind", args: "status", config: config, setUp: serveStatus(http.StatusOK, "{}"), wantExit: 1, wantOutput: "another program, or another version of collectord"},
		{name: "an earlier version", args: "status --check", config: config, setUp: serveStatus(http.StatusNotFound, ""), wantExit: 2, wantOutput: "answers at unix:DIR/admin.sock: 404 Not Found"},
		{name: "an answer without end", args: "status", config: config, setUp: serveStatus(http.StatusOK, "endless"), wantExit: 1, wantOutput: "another program, or another version of collectord"},

		// No admin address is configured or reachable.
		{name: "off", args: "status", config: "data_dir: DIR/data\nadmin: {listen: off}\n", wantExit: 1, wantOutput: "collectord: admin.listen is off, so the daemon can't be asked: set an address (admin.listen, --admin-listen or COLLECTORD_ADMIN_LISTEN)"},
		{name: "off: check", args: "status --check", config: "data_dir: DIR/data\nadmin: {listen: off}\n", wantExit: 1, wantOutput: "admin.listen is off"},
		{name: "a mistake", args: "status --check", config: "admin: {listen: nowhere}\n", wantExit: 1, wantOutput: "admin.listen (DIR/collectord.yaml line 1)"},
		{name: "a mistake elsewhere", args: "status", config: config + "wal: {sync: never}\n", wantExit: 1, wantOutput: "no daemon runs", unwantedOutput: "1 mistake"},

		// A daemon answers.
		{name: "fine", args: "status", config: config, setUp: serveStatus(http.StatusOK, `{"verdict":"fine","summary":"0 usages/s come in; all is shipped"}`), wantOutput: "FINE: 0 usages/s come in; all is shipped\n"},
		{name: "fine: check", args: "status --check", config: config, setUp: serveStatus(http.StatusOK, `{"verdict":"fine","summary":"all is shipped"}`), wantOutput: "FINE: all is shipped\n"},
		{name: "warning: check", args: "status --check", config: config, setUp: serveStatus(http.StatusOK, `{"verdict":"warning","summary":"w"}`), wantExit: 1, wantOutput: "WARNING: w\n", unwantedOutput: "collectord:"},
		{name: "starting: check", args: "status --check", config: config, setUp: serveStatus(http.StatusOK, `{"verdict":"starting","summary":"s"}`), wantExit: 1, wantOutput: "STARTING: s\n"},
		{name: "failing: check", args: "status --check", config: config, setUp: serveStatus(http.StatusOK, `{"verdict":"failing","summary":"f"}`), wantExit: 2, wantOutput: "FAILING: f\n", unwantedOutput: "collectord:"},
		{name: "failing: only asked", args: "status", config: config, setUp: serveStatus(http.StatusOK, `{"verdict":"failing","summary":"f"}`), wantOutput: "FAILING: f\n"},
		{name: "what a stranger wrote", args: "status --check", config: config, setUp: serveStatus(http.StatusOK, `{"verdict":"fine","summary":"a\nFAILING: \u001b[31m"}`), wantOutput: `FINE: "a\nFAILING: \x1b[31m"`},
		{name: "advice", args: "status", config: config, setUp: serveStatus(http.StatusOK, `{"verdict":"failing","summary":"f","reasons":[{"verdict":"failing","text":"f","advice":"mend it"}]}`), wantOutput: "FAILING: f\n  what to do: mend it\n"},
		{name: "an argument", args: "status now", config: config, wantExit: 1, wantOutput: "collectord status takes flags only"},
		{name: "a name that people try", args: "health", wantExit: 1, wantOutput: "did you mean collectord doctor or collectord status?"},
	}
}

// lockDataDir locks a data directory, as a daemon does that answers no requests.
func lockDataDir(t *testing.T, dir string) {
	log, err := wal.Open(dir+"/data", wal.Options{Node: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
}

// listenAdmin listens on the admin socket in a situation's directory.
func listenAdmin(t *testing.T, dir string) *net.UnixListener {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "admin.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func makeAbandonedSocket(t *testing.T, dir string) {
	ln := listenAdmin(t, dir)
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
}

// serveStatus serves an answer on the admin socket. The answer may be endless.
func serveStatus(status int, body string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		ln := listenAdmin(t, dir)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			if body != "endless" {
				_, _ = io.WriteString(w, body)
				return
			}
			for err := error(nil); err == nil; {
				_, err = io.WriteString(w, fmt.Sprintf("%01000d", 0))
			}
		})}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = server.Serve(ln) }()
		t.Cleanup(func() { _ = server.Close(); <-ended; os.Remove(filepath.Join(dir, "admin.sock")) })
	}
}
