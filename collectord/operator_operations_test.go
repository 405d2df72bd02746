package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func operationSituations(situations map[string][]situation) {
	const bucket = "shipper: {destination: 's3://bucket/p', keep: 0s, s3: {endpoint: 'http://127.0.0.1:PORT', region: x, credentials_file: DIR/keys}}\n"
	situations["operations"] = []situation{
		// What is in effect, and why.
		{name: "print: the node is the host's", args: "config print", says: "# default: the host's name"},
		{name: "print: the node of the file", args: "config print", config: "node: edge-1\n", says: "node: edge-1 # DIR/collectord.yaml line 1"},
		{name: "print: the destination that is not set", args: "config print", config: "data_dir: DIR/data\n", says: "DIR/data/archive\" # default: archive in data_dir"},
		{name: "print: data_dir from where it is run", args: "config print", says: "data_dir: DIR/var # default"},
		{name: "print: a variable", args: "config print", env: []string{"COLLECTORD_HTTP_RATE=7"}, config: "http: {rate: 5}\n", says: "rate: 7 # COLLECTORD_HTTP_RATE"},
		{name: "print: a flag", args: "config print --seal-after 3s", env: []string{"COLLECTORD_WAL_SEAL_AFTER=9s"}, says: "seal_after: 3s # --seal-after"},
		{name: "print: what follows from it", args: "config print --seal-after 3s", says: "seal_small_after: 3s # default: from wal.seal_after"},
		{name: "print: for programs", args: "config print --json", config: "node: edge-1\n", says: "\"node\": {\n    \"value\": \"edge-1\",\n    \"from\": \"DIR/collectord.yaml line 1\""},
		{name: "print: a mistake", args: "config print", config: "node: 'a b'\n", exit: 1, says: "node (DIR/collectord.yaml line 1)"},

		// A data_dir of a later version.
		{name: "run: LOG of a later version", args: "run", config: "data_dir: DIR/data\nhttp: {listen: 'localhost:PORT'}\nudp: {listen: off}\nadmin: {listen: off}\n", setUp: laterLog, exit: 78, says: "a later version wrote DIR/data/wal/LOG: nothing was changed (install that version again)"},
		{name: "run: a segment of a later version", args: "run", config: "data_dir: DIR/data\nhttp: {listen: 'localhost:PORT'}\nudp: {listen: off}\nadmin: {listen: off}\n", setUp: laterSegment, exit: 78, says: "a later version wrote DIR/data/wal/00000000000000000001: nothing was changed"},
		{name: "ship: LOG of a later version", args: "ship", config: "data_dir: DIR/data\n", setUp: laterLog, exit: 1, says: "a later version wrote DIR/data/wal/LOG"},
		{name: "repair: LOG of a later version", args: "wal repair", config: "data_dir: DIR/data\n", setUp: laterLog, exit: 1, says: "a later version wrote DIR/data/wal/LOG"},
		{name: "verify: a segment of a later version", args: "wal verify", config: "data_dir: DIR/data\n", setUp: laterSegment, says: "passed over: segment 00000000000000000001"},

		// An archive of an earlier destination.
		{name: "ship: an archive that is not there", args: "ship --archive DIR/nothing", config: bucket, exit: 1, says: "DIR/nothing: no such file or directory"},
		{name: "ship: an archive that is a file", args: "ship --archive DIR/collectord.yaml", config: bucket, setUp: someKeys, exit: 1, says: "DIR/collectord.yaml is not a directory"},
		{name: "ship: the archive is the destination", args: "ship --archive DIR/data/archive", config: "data_dir: DIR/data\n", setUp: someArchive, exit: 1, says: "DIR/data/archive is where objects go now: set shipper.destination"},
		{name: "ship: an empty archive", args: "ship --archive DIR/data/archive", config: bucket, setUp: inOrder(someKeys, emptyArchive), says: "brought 0 records in 0 objects and 0 loss notes from DIR/data/archive to s3://bucket/p"},
		{name: "ship: what is not ours stays", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: inOrder(emptyArchive, strangersFile), says: "brought 0 records"},
		{name: "ship: an object that is damaged", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: someArchive, exit: 2, says: "not everything is shipped: 1 object left in DIR/data/archive"},
		{name: "ship: and which", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: someArchive, exit: 2, says: "archive; " + operatorsObject + ": damaged after 0 records"},
		{name: "ship: an object that a power loss emptied", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: emptiedArchive, exit: 2, says: "archive; " + operatorsObject + ": damaged after 0 records"},
		{name: "ship: a pipe under the name of an object", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: pipeInArchive, exit: 2, says: "archive; " + operatorsObject + ": damaged after 0 records: no regular file"},
		{name: "ship: the storage is away", args: "ship --archive DIR/data/archive --patience 1ms", config: bucket, setUp: inOrder(someKeys, goodArchive), exit: 2, says: "nothing could be brought for 1ms"},
		{name: "ship: a folder to another", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: goodArchive, says: "brought 1 record in 1 object and 0 loss notes from DIR/data/archive to file://DIR/new"},
		{name: "ship: without an argument", args: "ship --archive", exit: 1, says: "flag needs an argument: --archive"},
	}
}

const operatorsObject = "dt=2026-11-23/hour=08/edge-1-000000000000000a-00000000000000000001-00000000000000000001-000000000000000b.ndjson.zst"

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func inOrder(a, b func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) { a(t, dir); b(t, dir) }
}

func someKeys(t *testing.T, dir string) {
	put(t, dir+"/keys", []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"))
}

func emptyArchive(t *testing.T, dir string) { put(t, dir+"/data/archive/_collectord/tmp/put-x-1", nil) }

func strangersFile(t *testing.T, dir string) {
	put(t, dir+"/data/archive/dt=2026-11-23/hour=08/notes.txt", []byte("x"))
}

// someArchive has an object that is none.
func someArchive(t *testing.T, dir string) { put(t, dir+"/data/archive/"+operatorsObject, []byte("x")) }

func emptiedArchive(t *testing.T, dir string) { put(t, dir+"/data/archive/"+operatorsObject, nil) }

func pipeInArchive(t *testing.T, dir string) {
	emptiedArchive(t, dir)
	path := dir + "/data/archive/" + operatorsObject
	if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// goodArchive has an object of one record.
func goodArchive(t *testing.T, dir string) {
	put(t, dir+"/data/archive/"+operatorsObject, compressed(t, `{"id":"019aaf5e-6c1e-7b3a-9c41-1f2e3d4c5b6a","received_at":"2026-11-23T08:30:12.123456Z","via":"http","client":null,"usage":{}}`+"\n"))
}

// checked ends bytes with their checksum, as LOG does.
func checked(body string) []byte {
	return fmt.Appendf(nil, "%s %08x\n", body, crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)))
}

func laterLog(t *testing.T, dir string) {
	put(t, dir+"/data/wal/LOG", checked("collectord-log 2 0123456789abcdef -"))
}

func laterSegment(t *testing.T, dir string) {
	header := append([]byte("\xffcdS\x02\x00\x00\x00"), make([]byte, 24)...)
	sum := crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli))
	header = append(header, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
	put(t, dir+"/data/wal/00000000000000000001/00000000000000000001", append([]byte{byte(len(header))}, header...))
}

func compressed(t *testing.T, lines string) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll([]byte(lines), nil)
}
