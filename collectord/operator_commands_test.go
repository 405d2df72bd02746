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
		// Unknown commands and flags.
		{name: "a typo of a command", args: "wall ls", wantExit: exitError, wantOutput: `collectord has no command "wall": did you mean collectord wal? (see collectord --help)`},
		{name: "a typo below wal", args: "wal lsx", wantExit: exitError, wantOutput: "did you mean collectord wal ls?"},
		{name: "a typo and flags", args: "wal verfy --json --data-dir x", wantExit: exitError, wantOutput: "did you mean collectord wal verify?"},
		{name: "a typo below config", args: "config chekc", wantExit: exitError, wantOutput: "did you mean collectord config check?"},
		{name: "a typo below token", args: "token nwe ward-3", wantExit: exitError, wantOutput: "did you mean collectord token new?"},
		{name: "a typo below completion", args: "completion bsh", wantExit: exitError, wantOutput: "collectord completion bash"},
		{name: "a typo below help", args: "help wal verfy", wantExit: exitError, wantOutput: "did you mean collectord wal verify?"},
		{name: "a command of another level", args: "verify", wantExit: exitError, wantOutput: "did you mean collectord wal verify?"},
		{name: "a word for which tokens have no command", args: "token list", wantExit: exitError, wantOutput: "a token is a line of http.tokens_file; list, change or remove it there, and reload", unwantedOutput: "fleet"},
		{name: "another word below config", args: "config explain http.listen", wantExit: exitError, wantOutput: "did you mean collectord config example?"},
		{name: "another word for a command", args: "upload", wantExit: exitError, wantOutput: "did you mean collectord ship?"},
		{name: "a typo and a question", args: "wal verfy --help", wantExit: exitError, wantOutput: "did you mean collectord wal verify?", unwantedOutput: "Usage:"},
		{name: "a typo and the version", args: "wall --version", wantExit: exitError, wantOutput: "did you mean collectord wal?"},
		{name: "a letter", args: "x", wantExit: exitError, wantOutput: `collectord has no command "x": see collectord --help`},
		{name: "an argument of config check", args: "config check now", wantExit: exitError, wantOutput: `collectord config check takes flags only, not "now"`},
		{name: "nothing like a command", args: "frobnicate", wantExit: exitError, wantOutput: `collectord has no command "frobnicate": see collectord --help`},
		{name: "an argument where none is taken", args: "ship now", wantExit: exitError, wantOutput: `collectord ship takes flags only, not "now"`},
		{name: "an argument is missing", args: "wal export", wantExit: exitError, wantOutput: "takes the name of a segment"},
		{name: "no name for a token", args: "token new", wantExit: exitError, wantOutput: "takes the name of a client"},
		{name: "two URLs", args: "send localhost:1 localhost:2", wantExit: exitError, wantOutput: "collectord send takes one URL"},
		{name: "a typo of a flag", args: "audit --dep", wantExit: exitError, wantOutput: "collectord audit has no flag --dep: did you mean --deep"},
		{name: "a key for a flag", args: "run --data_dir x", wantExit: exitError, wantOutput: "did you mean --data-dir?"},
		{name: "a flag of the daemon", args: "wal ls --udp-listen :3000", wantExit: exitError, wantOutput: "collectord wal ls has no flag --udp-listen"},
		{name: "a flag without its value", args: "cat --from", wantExit: exitError, wantOutput: "flag needs an argument: --from: see collectord cat --help"},
		{name: "a letter that is not a flag", args: "run -c x", wantExit: exitError, wantOutput: "collectord run has no flag -c: did you mean --config? (see collectord run --help)"},
		{name: "a letter that is nothing", args: "run -x", wantExit: exitError, wantOutput: "collectord run has no flag -x: see collectord run --help"},
		{name: "the end of a flag", args: "run --endpoint http://h", wantExit: exitError, wantOutput: "collectord run has no flag --endpoint: did you mean --s3-endpoint?"},
		{name: "another word for a flag", args: "run --port 3000", wantExit: exitError, wantOutput: "did you mean --http-listen?"},
		{name: "a file to send", args: "send --file usages.ndjson", wantExit: exitError, wantOutput: "did you mean --payload?"},
		{name: "another word for a time", args: "cat --since 2h", wantExit: exitError, wantOutput: "did you mean --from?"},
		{name: "a flag of other programs", args: "ship --force", wantExit: exitError, wantOutput: "collectord ship has no flag --force: see collectord ship --help"},
		{name: "to stop the daemon", args: "stop", wantExit: exitError, wantOutput: `collectord has no command "stop": use systemctl stop collectord, or send the daemon SIGTERM`, unwantedOutput: "did you mean"},
		{name: "to reload", args: "reload", wantExit: exitError, wantOutput: "systemctl reload collectord, or send the daemon SIGHUP"},
		{name: "to ship at once", args: "flush", wantExit: exitError, wantOutput: "SIGUSR1"},
		{name: "to see what was logged", args: "logs", wantExit: exitError, wantOutput: "journalctl --unit collectord", unwantedOutput: "did you mean"},
		{name: "to check the log", args: "wal check", wantExit: exitError, wantOutput: "did you mean collectord wal verify?"},
		{name: "to show the configuration", args: "config show", wantExit: exitError, wantOutput: "did you mean collectord config print?"},
		{name: "a word that is similar and means the same", args: "get", wantExit: exitError, wantOutput: "did you mean collectord cat? "},
		{name: "a configuration without its flag", args: "config check collectord.yaml", setUp: withFile("collectord.yaml", ""), wantExit: exitError, wantOutput: `collectord config check takes flags only, not "collectord.yaml" (a configuration is named with --config): see`},
		{name: "a flag that is not a number", args: "send --count many", wantExit: exitError, wantOutput: `--count: "many" is not a whole number`, unwantedOutput: "strconv"},
		{name: "a flag that is not a duration", args: "send --timeout 5", wantExit: exitError, wantOutput: `--timeout: "5" is not a duration such as 500ms`},
		{name: "another word for config check", args: "config validate", wantExit: exitError, wantOutput: "did you mean collectord config check?"},
		{name: "no configuration by mistake", args: "wal ls --config=", wantExit: exitError, wantOutput: "configuration (--config): names no file"},

		// Help.
		{name: "the version as a flag", args: "--version", wantOutput: "collectord "},
		{name: "the version as a letter", args: "-v", wantOutput: "collectord "},
		{name: "help leads to a way out of service", args: "--help", wantOutput: "# Take this host out of service"},
		{name: "help leads to damage", args: "", wantOutput: "collectord wal verify"},
		{name: "help of a group", args: "wal", wantOutput: "verify      Read every segment", unwantedOutput: "--udp-listen"},
		{name: "whole sentences", args: "run --help", wantOutput: "Whether clients may send without a token or certificate\n"},
		{name: "examples", args: "cat --help", wantOutput: "collectord cat --from 2h"},
		{name: "help of a command", args: "help ship", wantOutput: "Stop the daemon first: "},
		{name: "a page with tables", args: "man", wantOutput: "\n.TP\n.B missing\na gap in"},
		{name: "completion", args: "completion bash", wantOutput: "__start_collectord"},
		{name: "values complete", args: "__complete run --log-level d", wantOutput: "debug\n"},

		// Sending.
		{name: "a closed port", args: "send localhost:PORT", wantExit: exitError, wantOutput: "nothing listens there: start the daemon with collectord run"},
		{name: "as for curl", args: "send localhost:PORT/api/usages --timeout 1s", wantExit: exitError, wantOutput: "connection refused"},
		{name: "another scheme", args: "send ftp://localhost", wantExit: exitError, wantOutput: "ftp is not among http, https, udp and unix"},
		{name: "a password", args: "send me:secret@localhost:PORT", wantExit: exitError, wantOutput: "could be read by every user of this host", unwantedOutput: "secret@"},
		{name: "a file in the place of the URL", args: "send usages.ndjson", setUp: withFile("usages.ndjson", "{}\n"), wantExit: exitError, wantOutput: "usages.ndjson is a file, not a URL: send it with --payload usages.ndjson"},
		{name: "a file as for curl", args: "send @usages.ndjson", setUp: withFile("usages.ndjson", "{}\n"), wantExit: exitError, wantOutput: "send it with --payload usages.ndjson"},
		{name: "a compressed file", args: "send --payload usages.gz", setUp: withFile("usages.gz", "\x1f\x8b\x08\x00"), wantExit: exitError, wantOutput: "usages.gz: it is compressed"},
		{name: "a broken array", args: "send --payload usages.json", setUp: withFile("usages.json", "[{},\n{},\n{]"), wantExit: exitError, wantOutput: "usages.json: usage 3 of the array: not JSON at byte"},
		{name: "no such file", args: "send --payload usages.ndjson", wantExit: exitError, wantOutput: "usages.ndjson: no such file or directory"},

		// A log that is missing, in use, or damaged.
		{name: "no log to look at", args: "wal ls --data-dir DIR/none", wantExit: exitError, wantOutput: "name the daemon's directory with --data-dir"},
		{name: "a log in a file", args: "wal ls --data-dir DIR/file", setUp: withFile("file", ""), wantExit: exitError, wantOutput: "name the daemon's directory with --data-dir"},
		{name: "no log to ship", args: "ship --data-dir DIR/none", wantExit: exitError, wantOutput: "name the daemon's directory with --data-dir"},
		{name: "nothing was shipped", args: "cat --data-dir DIR/none", wantExit: exitError, wantOutput: "nothing was shipped there: name another destination"},
		{name: "ship while the daemon runs", args: "ship --data-dir DIR/data", setUp: openLog, wantExit: exitError, wantOutput: "the daemon ships by itself; to ship all that is left and take this host out of service, stop it first", unwantedOutput: "data_dir of its own"},
		{name: "repair while the daemon runs", args: "wal repair --data-dir DIR/data", setUp: openLog, wantExit: exitError, wantOutput: "the daemon repairs damaged segments by itself", unwantedOutput: "data_dir of its own"},
		{name: "a second daemon", args: "run --data-dir DIR/data" + quiet, setUp: openLog, wantExit: exitError, wantOutput: fmt.Sprintf("another collectord (process %d): stop that process, or give this daemon a data_dir of its own (--data-dir)", os.Getpid())},
		{name: "a log that is whole", args: "wal verify --data-dir DIR/data", setUp: makeSealedLog(nil), wantOutput: "ok       00000000000000000001-"},
		{name: "a damaged segment", args: "wal verify --data-dir DIR/data", setUp: makeSealedLog(flipByte), wantExit: exitNotRight, wantOutput: "the log is damaged: 1 segment; the daemon saves the records that check out when it ships a segment, and collectord wal repair saves all of them now, while no daemon runs (collectord wal export prints those of one segment, and changes nothing)"},
		{name: "a damaged segment is shipped", args: "ship --data-dir DIR/data", setUp: makeSealedLog(flipByte), wantOutput: "collectord wal export prints what can be saved"},
		{name: "out of service, but the daemon's configuration was not named", args: "ship --data-dir DIR/data", setUp: makeSealedLog(nil), wantOutput: "it is the default: if the daemon has another destination, bring the objects there (collectord ship --archive DIR/data/archive --config FILE"},
		{name: "out of service, to a folder of its own", args: "ship --data-dir DIR/data --destination file://DIR/bucket", setUp: makeSealedLog(nil), wantOutput: "shipped 1 record in 1 object to file://DIR/bucket", unwantedOutput: "the default"},
		{name: "out of service, and objects are left of an earlier ship", args: "ship --data-dir DIR/data --destination file://DIR/bucket", setUp: shipToDefault, wantOutput: "objects are left in the folder of an earlier destination: no daemon ships them (collectord ship --archive DIR/data/archive)"},
		{name: "out of service", args: "ship --data-dir DIR/data --json", setUp: makeSealedLog(nil), wantOutput: `"done":true`},
		{name: "ship of a folder that does not exist", args: "ship --archive DIR/none --data-dir DIR/data", wantExit: exitError, wantOutput: "--archive names no folder: stat DIR/none: no such file or directory", unwantedOutput: "name the daemon's directory"},
		{name: "ship with a negative time", args: "ship --give-up-after -5s --data-dir DIR/data", wantExit: exitError, wantOutput: "--give-up-after is negative: write 0 to never give up"},
		{name: "no such segment", args: "wal export 7 --data-dir DIR/data", setUp: makeSealedLog(nil), wantExit: exitError, wantOutput: `there is no segment "7" in DIR/data/wal or its quarantine, and no file of that name: collectord wal ls prints the names`},
		{name: "the first number of a segment", args: "wal export 00000000000000000001 --data-dir DIR/data", setUp: makeSealedLog(nil), wantExit: exitError, wantOutput: "did you mean 00000000000000000001-00000000000000000001?"},
		{name: "a host in the place of a destination", args: "fleet edge-1", wantExit: exitError, wantOutput: "is neither file:///path nor s3://bucket/prefix (name a bucket as s3://edge-1, and a host with --node)"},
		{name: "what an empty value means", args: "run --help", wantOutput: "(shipper.destination; empty: the folder"},
		{name: "no keys for the storage", args: "cat --destination s3://usages --s3-endpoint http://127.0.0.1:PORT", env: []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:PORT2"}, wantExit: exitError, wantOutput: "no keys are set, neither in a file nor in the AWS_* variables, so the role was asked: see shipper.s3.credentials_file"},

		// Ports.
		{name: "a port is taken", args: "run --config DIR/taken.yaml", setUp: occupyConfiguredPort, wantExit: exitError, wantOutput: fmt.Sprintf("(process %d): stop that process, or listen elsewhere (http.listen, --http-listen or COLLECTORD_HTTP_LISTEN)", os.Getpid())},
		{name: "an address of another host", args: "run --data-dir DIR/data --udp-listen off --admin-listen off --http-listen 192.0.2.1:PORT --http-anonymous true", wantExit: exitError, wantOutput: "this host does not have this address: listen on one that it has"},
	}
}

// openLog opens the log in this process, as a daemon does.
func openLog(t *testing.T, dir string) {
	log, err := wal.Open(filepath.Join(dir, "data"), wal.Options{Node: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
}

// makeSealedLog makes a log with a sealed segment and calls change with it.
func makeSealedLog(change func(t *testing.T, file string)) func(*testing.T, string) {
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

// shipToDefault ships a log to the folder in data_dir, as without a configuration.
func shipToDefault(t *testing.T, dir string) {
	makeSealedLog(nil)(t, dir)
	mustRun(t, "ship", "--data-dir", filepath.Join(dir, "data"))
}

func flipByte(t *testing.T, file string) {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-3] ^= 0xff
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// occupyConfiguredPort listens on the port that the daemon has in DIR/taken.yaml.
func occupyConfiguredPort(t *testing.T, dir string) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	write(t, filepath.Join(dir, "taken.yaml"), fmt.Sprintf("data_dir: %s/data\nhttp: {listen: '%s'}\nudp: {listen: \"off\"}\nadmin: {listen: \"off\"}\n", dir, ln.Addr()))
}
