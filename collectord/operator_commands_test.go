package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"collectord/wal"
)

func commandSituations(situations map[string][]situation) {
	const quiet = " --http-listen 127.0.0.1:PORT --udp-listen off --admin-listen off"
	situations["commands"] = []situation{
		// What was typed is not a command, or not one of its flags.
		{name: "a typo of a command", args: "wall ls", exit: exitError, says: `collectord has no command "wall": did you mean collectord wal? (see collectord --help)`},
		{name: "a typo below wal", args: "wal lsx", exit: exitError, says: "did you mean collectord wal ls?"},
		{name: "a typo and flags", args: "wal verfy --json --data-dir x", exit: exitError, says: "did you mean collectord wal verify?"},
		{name: "a typo below config", args: "config chekc", exit: exitError, says: "did you mean collectord config check?"},
		{name: "a typo below token", args: "token nwe ward-3", exit: exitError, says: "did you mean collectord token new?"},
		{name: "a typo below completion", args: "completion bsh", exit: exitError, says: "collectord completion bash"},
		{name: "a typo below help", args: "help wal verfy", exit: exitError, says: "did you mean collectord wal verify?"},
		{name: "a command of another level", args: "verify", exit: exitError, says: "did you mean collectord wal verify?"},
		{name: "another word for a command", args: "upload", exit: exitError, says: "did you mean collectord ship?"},
		{name: "nothing like a command", args: "frobnicate", exit: exitError, says: `collectord has no command "frobnicate": see collectord --help`},
		{name: "an argument where none is taken", args: "ship now", exit: exitError, says: `collectord ship takes flags only, not "now"`},
		{name: "an argument is missing", args: "wal export", exit: exitError, says: "takes the name of a segment"},
		{name: "no name for a token", args: "token new", exit: exitError, says: "takes the name of a client"},
		{name: "two URLs", args: "send localhost:1 localhost:2", exit: exitError, says: "collectord send takes one URL"},
		{name: "a typo of a flag", args: "audit --dep", exit: exitError, says: "collectord audit has no flag --dep: did you mean --deep"},
		{name: "a key for a flag", args: "run --data_dir x", exit: exitError, says: "did you mean --data-dir?"},
		{name: "a flag of the daemon", args: "wal ls --udp-listen :3000", exit: exitError, says: "collectord wal ls has no flag --udp-listen"},
		{name: "a flag without its value", args: "cat --from", exit: exitError, says: "flag needs an argument: --from: see collectord cat --help"},
		{name: "a letter that is not a flag", args: "run -c x", exit: exitError, says: "collectord run has no flag -c: see collectord run --help"},
		{name: "a flag that is not a number", args: "send --count many", exit: exitError, says: `--count: "many" is not a whole number`, never: "strconv"},
		{name: "a flag that is not a duration", args: "send --timeout 5", exit: exitError, says: `--timeout: "5" is not a duration such as 500ms`},
		{name: "another word for config check", args: "config validate", exit: exitError, says: "did you mean collectord config check?"},
		{name: "no configuration by mistake", args: "wal ls --config=", exit: exitError, says: "configuration (--config): names no file"},

		// What helps.
		{name: "the version as a flag", args: "--version", says: "collectord "},
		{name: "the version as a letter", args: "-v", says: "collectord "},
		{name: "help leads to a way out of service", args: "--help", says: "# Take this host out of service"},
		{name: "help leads to damage", args: "", says: "collectord wal verify"},
		{name: "help of a group", args: "wal", says: "verify      Read every segment", never: "--udp-listen"},
		{name: "whole sentences", args: "run --help", says: "Whether clients may send without a token or certificate\n"},
		{name: "examples", args: "cat --help", says: "collectord cat --from 2h"},
		{name: "help of a command", args: "help ship", says: "Stop the daemon first: "},
		{name: "a page with tables", args: "man", says: "\n.TP\n.B missing\na gap below"},
		{name: "completion", args: "completion bash", says: "__start_collectord"},
		{name: "values complete", args: "__complete run --log-level d", says: "debug\n"},

		// Sending.
		{name: "nobody listens", args: "send localhost:PORT", exit: exitError, says: "nothing listens there: start the daemon with collectord run"},
		{name: "as for curl", args: "send localhost:PORT/api/usages --timeout 1s", exit: exitError, says: "connection refused"},
		{name: "another scheme", args: "send ftp://localhost", exit: exitError, says: "ftp is not among http, https, udp and unix"},
		{name: "a password", args: "send me:secret@localhost:PORT", exit: exitError, says: "could be read by every user of this host", never: "secret@"},
		{name: "no such file", args: "send --payload usages.ndjson", exit: exitError, says: "usages.ndjson: no such file or directory"},

		// A log that is not there, in use, or damaged.
		{name: "no log to look at", args: "wal ls --data-dir DIR/none", exit: exitError, says: "name the daemon's directory with --data-dir"},
		{name: "a log in a file", args: "wal ls --data-dir DIR/file", setUp: file("file", ""), exit: exitError, says: "name the daemon's directory with --data-dir"},
		{name: "no log to ship", args: "ship --data-dir DIR/none", exit: exitError, says: "name the daemon's directory with --data-dir"},
		{name: "nothing was shipped", args: "cat --data-dir DIR/none", exit: exitError, says: "nothing was shipped there: name another destination"},
		{name: "ship while the daemon runs", args: "ship --data-dir DIR/data", setUp: logInUse, exit: exitError, says: "the daemon ships by itself; to ship all that is left and take this host out of service, stop it first", never: "data_dir of its own"},
		{name: "repair while the daemon runs", args: "wal repair --data-dir DIR/data", setUp: logInUse, exit: exitError, says: "the daemon repairs by itself", never: "data_dir of its own"},
		{name: "a second daemon", args: "run --data-dir DIR/data" + quiet, setUp: logInUse, exit: exitError, says: fmt.Sprintf("another collectord (process %d): stop it, or give this one a data_dir of its own (--data-dir)", os.Getpid())},
		{name: "a log that is whole", args: "wal verify --data-dir DIR/data", setUp: logWith(nil), says: "ok       00000000000000000001-"},
		{name: "a damaged segment", args: "wal verify --data-dir DIR/data", setUp: logWith(damage), exit: exitNotRight, says: "the log is damaged: 1 segment; the daemon saves what checks out when it ships that, collectord wal repair at once"},
		{name: "a damaged segment is shipped", args: "ship --data-dir DIR/data", setUp: logWith(damage), says: "collectord wal export prints what can be saved"},
		{name: "out of service", args: "ship --data-dir DIR/data --json", setUp: logWith(nil), says: `"done":true`},
		{name: "no such segment", args: "wal export 7 --data-dir DIR/data", setUp: logWith(nil), exit: exitError, says: `there is no segment "7"`},

		// Ports.
		{name: "a port is taken", args: "run --config DIR/taken.yaml", setUp: portTaken, exit: exitError, says: fmt.Sprintf("(process %d): stop that, or listen elsewhere (http.listen, --http-listen or COLLECTORD_HTTP_LISTEN)", os.Getpid())},
		{name: "an address of another host", args: "run --data-dir DIR/data --udp-listen off --admin-listen off --http-listen 192.0.2.1:PORT --http-anonymous true", exit: exitError, says: "this host does not have it: listen on one that it has"},
	}
}

// logInUse has this process use the log, as a daemon would.
func logInUse(t *testing.T, dir string) {
	log, err := wal.Open(filepath.Join(dir, "data"), wal.Options{Node: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
}

// logWith leaves a log with a sealed segment, to which something is done.
func logWith(change func(t *testing.T, file string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		log, err := wal.Open(filepath.Join(dir, "data"), wal.Options{Node: "edge-1"})
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the log has started", log.Started)
		if err := log.Append(t.Context(), wal.Record{Usage: []byte(`{"n":1}`)}); err != nil {
			t.Fatal(err)
		}
		if err := log.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "data/wal/*-*/*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%q: %v", files, err)
		}
		if change != nil {
			change(t, files[0])
		}
	}
}

func damage(t *testing.T, file string) {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-3] ^= 0xff
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// portTaken has this process listen where DIR/taken.yaml has the daemon listen.
func portTaken(t *testing.T, dir string) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	write(t, filepath.Join(dir, "taken.yaml"), fmt.Sprintf("data_dir: %s/data\nhttp: {listen: '%s'}\nudp: {listen: \"off\"}\nadmin: {listen: \"off\"}\n", dir, ln.Addr()))
}
