package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wrongElsewhere has wrong values of keys that commands for an incident do not use, and
// combinations that can't work.
const wrongElsewhere = `
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

const wrongHTTP = "warning: http.max_body (DIR/collectord.yaml line 6): \"much\" is not a size such as 65536, 512KiB, 8MiB or 4GiB (not needed here: its default is used)"

func forensicSituations(situations map[string][]situation) {
	all := []situation{
		{name: "wal ls", args: "wal ls", says: wrongHTTP},
		{name: "wal ls of a section that is none", args: "wal ls", says: "warning: udp (DIR/collectord.yaml line 9): is a section: its keys belong below it, indented (not needed here"},
		{name: "wal ls of a key without a value", args: "wal ls", says: "warning: shutdown.grace (DIR/collectord.yaml line 11): has no value"},
		{name: "wal ls of open listeners", args: "wal ls", says: "warning: http.listen (DIR/collectord.yaml line 5): 0.0.0.0:3000 can be reached from other hosts"},
		{name: "wal verify", args: "wal verify", says: wrongHTTP},
		{name: "wal cat", args: "wal cat", says: wrongHTTP},
		{name: "wal export", args: "wal export nothing", says: wrongHTTP, exit: exitError},
		{name: "wal acknowledge", args: "wal acknowledge", says: "nothing is put aside"},
		{name: "wal repair", args: "wal repair", says: "the log is in order"},
		{name: "audit", args: "audit", says: "the bucket is not right: nothing", exit: exitNotRight},
		{name: "cat", args: "cat", says: wrongHTTP},
		{name: "fleet", args: "fleet", says: wrongHTTP, exit: exitNotRight},
		{name: "ship", args: "ship", says: "shipped 0 records in 0 objects to file://DIR/data/archive"},
	}
	for i := range all {
		all[i].config, all[i].setUp, all[i].never = wrongElsewhere, emptyLog, "the configuration has"
	}
	situations["forensics"] = append(all, []situation{
		{name: "ship with a misspelt destination", args: "ship", config: "data_dir: DIR/data\nshiper: {destination: 's3://abc/p'}\n", setUp: emptyLog, exit: exitError, says: "shiper (DIR/collectord.yaml line 2): is not a key; the nearest is shipper", never: "shipped"},
		{name: "ship with a misspelt key", args: "ship", config: "data_dir: DIR/data\nshipper: {destnation: 's3://abc/p'}\n", setUp: emptyLog, exit: exitError, says: "shipper.destnation (DIR/collectord.yaml line 2): is not a key; the nearest is shipper.destination", never: "shipped"},
		{name: "wal ls with a misspelt key of others", args: "wal ls", config: "data_dir: DIR/data\nhttp: {max_bdy: 1MiB}\n", setUp: emptyLog, exit: exitError, says: "http.max_bdy (DIR/collectord.yaml line 2): is not a key; the nearest is http.max_body"},
		{name: "ship with a wrong value of its own", args: "ship", config: "data_dir: DIR/data\nshipper: {retry_min: 1}\n", setUp: emptyLog, exit: exitError, says: "shipper.retry_min (DIR/collectord.yaml line 2): \"1\" is not a duration", never: "warning"},
		{name: "wal repair with a wrong node", args: "wal repair", config: "data_dir: DIR/data\nnode: ..\n", setUp: emptyLog, exit: exitError, says: "node (DIR/collectord.yaml line 2): \"..\" is not a name"},
		{name: "wal ls with a wrong node", args: "wal ls", config: "data_dir: DIR/data\nnode: ..\n", setUp: emptyLog, says: "warning: node (DIR/collectord.yaml line 2)"},
		{name: "cat with a wrong destination", args: "cat", config: "shipper: {destination: 's3://b/p'}\n", exit: exitError, says: "names the bucket \"b\", which is too short"},
		{name: "cat with a wrong endpoint", args: "cat", config: "shipper: {destination: 's3://abc/p', s3: {endpoint: 'ftp://h'}}\n", exit: exitError, says: "has a scheme other than http and https"},
		{name: "cat with a wrong level", args: "cat", config: "data_dir: DIR/data\nshipper: {level: hard}\n", setUp: emptyLog, says: "warning: shipper.level (DIR/collectord.yaml line 2): \"hard\" is not one of fastest, default, better, best"},
		{name: "audit of another host's configuration", args: "audit file://DIR", config: "http: {tls: {cert: /none, key: /none}}\nshipper: {level: hard}\n", exit: exitNotRight, says: "the bucket is not right: nothing", never: "/none"},
		{name: "send with a wrong value of others", args: "send --count 1 --timeout 1s", config: "http: {listen: '127.0.0.1:PORT'}\nwal: {max_bytes: much}\n", exit: exitError, says: "warning: wal.max_bytes (DIR/collectord.yaml line 2)"},
	}...)
}

// emptyLog makes the directories of a log and an archive in which nothing is.
func emptyLog(t *testing.T, dir string) {
	for _, name := range []string{"data/wal", "data/archive"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o750); err != nil {
			t.Fatal(err)
		}
	}
}

// Every command that needs only some keys does its work with every other key wrong.
func TestUnusedKeysAreNotNeeded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	emptyLog(t, dir)
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
