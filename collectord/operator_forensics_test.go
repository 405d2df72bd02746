package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wrongOtherKeys has invalid values, and invalid combinations, of keys that commands for an
// incident do not use.
const wrongOtherKeys = `
data_dir: DIR/data
node: edge-1
http:
  listen: 0.0.0.0:3000
  max_body: much
  max_record: [1, 2]
  tls: {cert: DIR/none}
udp: 7
admin: {listen: nowhere}
shutdown: {grace: ~}
`

const wrongHTTPWarning = "warning: http.max_body (DIR/collectord.yaml line 6): \"much\" is not a size such as 65536, 512KiB, 8MiB or 4GiB (not needed here: its default is used)"

func forensicSituations(situations map[string][]situation) {
	all := []situation{
		{name: "wal ls", args: "wal ls", wantOutput: wrongHTTPWarning},
		{name: "wal ls of a section that has a value", args: "wal ls", wantOutput: "warning: udp (DIR/collectord.yaml line 9): is a section: its keys belong below it, indented (not needed here"},
		{name: "wal ls of a key without a value", args: "wal ls", wantOutput: "warning: shutdown.grace (DIR/collectord.yaml line 11): has no value"},
		{name: "wal ls of open listeners", args: "wal ls", wantOutput: "warning: http.listen (DIR/collectord.yaml line 5): 0.0.0.0:3000 can be reached from other hosts"},
		{name: "wal verify", args: "wal verify", wantOutput: wrongHTTPWarning},
		{name: "wal cat", args: "wal cat", wantOutput: wrongHTTPWarning},
		{name: "wal export", args: "wal export nothing", wantOutput: wrongHTTPWarning, wantExit: exitError},
		{name: "wal acknowledge", args: "wal acknowledge", wantOutput: "nothing is put aside"},
		{name: "wal repair", args: "wal repair", wantOutput: "the log is in order"},
		{name: "audit", args: "audit", wantOutput: "the bucket is not right: nothing", wantExit: exitNotRight},
		{name: "cat", args: "cat", wantOutput: wrongHTTPWarning},
		{name: "fleet", args: "fleet", wantOutput: wrongHTTPWarning, wantExit: exitNotRight},
		{name: "ship", args: "ship", wantOutput: "shipped 0 records in 0 objects to file://DIR/data/archive"},
	}
	for i := range all {
		all[i].config, all[i].setUp, all[i].unwantedOutput = wrongOtherKeys, makeEmptyLog, "the configuration has"
	}
	situations["forensics"] = append(all, []situation{
		{name: "ship with a misspelt destination", args: "ship", config: "data_dir: DIR/data\nshiper: {destination: 's3://abc/p'}\n", setUp: makeEmptyLog, wantExit: exitError, wantOutput: "shiper (DIR/collectord.yaml line 2): is not a key; the nearest is shipper", unwantedOutput: "shipped"},
		{name: "ship with a misspelt key", args: "ship", config: "data_dir: DIR/data\nshipper: {destnation: 's3://abc/p'}\n", setUp: makeEmptyLog, wantExit: exitError, wantOutput: "shipper.destnation (DIR/collectord.yaml line 2): is not a key; the nearest is shipper.destination", unwantedOutput: "shipped"},
		{name: "wal ls with a misspelt key of others", args: "wal ls", config: "data_dir: DIR/data\nhttp: {max_bdy: 1MiB}\n", setUp: makeEmptyLog, wantExit: exitError, wantOutput: "http.max_bdy (DIR/collectord.yaml line 2): is not a key; the nearest is http.max_body"},
		{name: "ship with a wrong value of its own", args: "ship", config: "data_dir: DIR/data\nshipper: {retry_min: 1}\n", setUp: makeEmptyLog, wantExit: exitError, wantOutput: "shipper.retry_min (DIR/collectord.yaml line 2): \"1\" is not a duration", unwantedOutput: "warning"},
		{name: "wal repair with a wrong node", args: "wal repair", config: "data_dir: DIR/data\nnode: ..\n", setUp: makeEmptyLog, wantExit: exitError, wantOutput: "node (DIR/collectord.yaml line 2): \"..\" is not a name"},
		{name: "wal ls with a wrong node", args: "wal ls", config: "data_dir: DIR/data\nnode: ..\n", setUp: makeEmptyLog, wantOutput: "warning: node (DIR/collectord.yaml line 2)"},
		{name: "cat with a wrong destination", args: "cat", config: "shipper: {destination: 's3://b/p'}\n", wantExit: exitError, wantOutput: "names the bucket \"b\", which is too short"},
		{name: "cat with a wrong endpoint", args: "cat", config: "shipper: {destination: 's3://abc/p', s3: {endpoint: 'ftp://h'}}\n", wantExit: exitError, wantOutput: "has a scheme other than http and https"},
		{name: "cat with a wrong level", args: "cat", config: "data_dir: DIR/data\nshipper: {level: hard}\n", setUp: makeEmptyLog, wantOutput: "warning: shipper.level (DIR/collectord.yaml line 2): \"hard\" is not one of fastest, default, better, best"},
		{name: "wal ls does not touch files of others", args: "wal ls", config: "data_dir: DIR/data\nhttp: {tokens_file: DIR}\nshipper: {s3: {ca_file: DIR}}\n", setUp: makeEmptyLog, unwantedOutput: "is a directory"},
		{name: "audit of another host's configuration", args: "audit file://DIR", config: "http: {tls: {cert: /none, key: /none}}\nshipper: {level: hard}\n", wantExit: exitNotRight, wantOutput: "the bucket is not right: nothing", unwantedOutput: "/none"},
		{name: "send with a wrong value of others", args: "send --count 1 --timeout 1s", config: "http: {listen: '127.0.0.1:PORT'}\nwal: {max_bytes: much}\n", wantExit: exitError, wantOutput: "warning: wal.max_bytes (DIR/collectord.yaml line 2)"},
	}...)
}

// makeEmptyLog makes empty directories for a log and an archive.
func makeEmptyLog(t *testing.T, dir string) {
	for _, name := range []string{"data/wal", "data/archive"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o750); err != nil {
			t.Fatal(err)
		}
	}
}

// A command that needs only some keys works although all other keys are wrong.
func TestUnusedKeysAreNotNeeded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeEmptyLog(t, dir)
	config := filepath.Join(dir, "collectord.yaml")
	write(t, config, "data_dir: "+dir+"/data\n")
	cmd := command(t, "wal", "ls", "--config", config)
	cmd.Env = os.Environ()
	for _, name := range []string{"WAL_SYNC", "HTTP_LISTEN", "UDP_ALLOW", "SHIPPER_S3_ENDPOINT", "SHUTDOWN_GRACE", "LOG_LEVEL", "ADMIN_LISTEN", "NODE"} {
		cmd.Env = append(cmd.Env, "COLLECTORD_"+name+"=/wrong value/")
	}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "warning: ") != 8 {
		t.Errorf("%v: %s", err, out)
	}
}
