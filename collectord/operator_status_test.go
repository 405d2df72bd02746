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
		// Nobody answers.
		{name: "no daemon", args: "status", config: config, exit: 1, says: "no daemon runs: none has locked DIR/data (systemctl start collectord;"},
		{name: "no daemon: where it was asked", args: "status", config: config, exit: 1, says: "admin.listen unix:DIR/admin.sock: dial unix DIR/admin.sock: connect: no such file or directory"},
		{name: "no daemon: check", args: "status --check", config: config, exit: 2, says: "FAILING: no daemon runs: none has locked DIR/data"},
		{name: "no daemon: for programs", args: "status --json --check", config: config, exit: 2, says: `"verdict":"failing","summary":"no daemon runs`},
		{name: "no daemon: only JSON", args: "status --json", config: config, exit: 1, says: "collectord: no daemon runs", never: "verdict"},
		{name: "no daemon: each address", args: "status --admin-listen 127.0.0.1:PORT,127.0.0.1:PORT2", config: config, exit: 1, says: "127.0.0.1:PORT: connect: connection refused; admin.listen 127.0.0.1:PORT2: dial"},
		{name: "no daemon: the wildcard is asked on this host", args: "status --admin-listen 0.0.0.0:PORT", config: config, exit: 1, says: "admin.listen 0.0.0.0:PORT: dial tcp 127.0.0.1:PORT: connect: connection refused"},
		{name: "a daemon that does not answer", args: "status", config: config, setUp: someDaemon, exit: 1, says: " has locked DIR/data) and does not answer (it hangs, or was started with another admin.listen)"},
		{name: "a daemon that does not answer: check", args: "status --check", config: config, setUp: someDaemon, exit: 2, says: "FAILING: a daemon runs (process "},
		{name: "a socket that was left", args: "status", config: config, setUp: abandonedSocket, exit: 1, says: "no daemon runs: none has locked DIR/data"},
		{name: "another program", args: "status", config: config, setUp: answering(http.StatusOK, "<html>"), exit: 1, says: "another program, or another version of collectord, answers at unix:DIR/admin.sock: 200 OK"},
		{name: "another program: JSON of another kind", args: "status", config: config, setUp: answering(http.StatusOK, "{}"), exit: 1, says: "another program, or another version of collectord"},
		{name: "an earlier version", args: "status --check", config: config, setUp: answering(http.StatusNotFound, ""), exit: 2, says: "answers at unix:DIR/admin.sock: 404 Not Found"},
		{name: "an answer without end", args: "status", config: config, setUp: answering(http.StatusOK, "endless"), exit: 1, says: "another program, or another version of collectord"},

		// Nobody can be asked.
		{name: "off", args: "status", config: "data_dir: DIR/data\nadmin: {listen: off}\n", exit: 1, says: "collectord: admin.listen is off, and the daemon can't be asked: set it (admin.listen, --admin-listen or COLLECTORD_ADMIN_LISTEN)"},
		{name: "off: check", args: "status --check", config: "data_dir: DIR/data\nadmin: {listen: off}\n", exit: 1, says: "admin.listen is off"},
		{name: "a mistake", args: "status --check", config: "admin: {listen: nowhere}\n", exit: 1, says: "admin.listen (DIR/collectord.yaml line 1)"},
		{name: "a mistake elsewhere", args: "status", config: config + "wal: {sync: never}\n", exit: 1, says: "no daemon runs", never: "1 mistake"},

		// A daemon that says what it does.
		{name: "fine", args: "status", config: config, setUp: answering(http.StatusOK, `{"verdict":"fine","summary":"0 usages/s come in; all is shipped"}`), says: "FINE: 0 usages/s come in; all is shipped\n"},
		{name: "fine: check", args: "status --check", config: config, setUp: answering(http.StatusOK, `{"verdict":"fine","summary":"all is shipped"}`), says: "FINE: all is shipped\n"},
		{name: "warning: check", args: "status --check", config: config, setUp: answering(http.StatusOK, `{"verdict":"warning","summary":"w"}`), exit: 1, says: "WARNING: w\n", never: "collectord:"},
		{name: "starting: check", args: "status --check", config: config, setUp: answering(http.StatusOK, `{"verdict":"starting","summary":"s"}`), exit: 1, says: "STARTING: s\n"},
		{name: "failing: check", args: "status --check", config: config, setUp: answering(http.StatusOK, `{"verdict":"failing","summary":"f"}`), exit: 2, says: "FAILING: f\n", never: "collectord:"},
		{name: "failing: only asked", args: "status", config: config, setUp: answering(http.StatusOK, `{"verdict":"failing","summary":"f"}`), says: "FAILING: f\n"},
		{name: "what a stranger wrote", args: "status --check", config: config, setUp: answering(http.StatusOK, `{"verdict":"fine","summary":"a\nFAILING: \u001b[31m"}`), says: `FINE: "a\nFAILING: \x1b[31m"`},
		{name: "advice", args: "status", config: config, setUp: answering(http.StatusOK, `{"verdict":"failing","summary":"f","reasons":[{"verdict":"failing","text":"f","advice":"mend it"}]}`), says: "FAILING: f\n  what to do: mend it\n"},
		{name: "an argument", args: "status now", config: config, exit: 1, says: "collectord status takes flags only"},
		{name: "a name that people try", args: "health", exit: 1, says: "did you mean collectord doctor or collectord status?"},
	}
}

// someDaemon has the lock of a data directory, and answers nothing.
func someDaemon(t *testing.T, dir string) {
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

// socketIn listens on the admin socket of a situation.
func socketIn(t *testing.T, dir string) *net.UnixListener {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "admin.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func abandonedSocket(t *testing.T, dir string) {
	ln := socketIn(t, dir)
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
}

// answering is a server at the admin socket. What it answers may be endless.
func answering(status int, body string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		ln := socketIn(t, dir)
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
