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
		// The effective configuration, and the origin of each value.
		{name: "print: the node is the host's", args: "config print", wantOutput: "# default: the host's name"},
		{name: "print: the node of the file", args: "config print", config: "node: edge-1\n", wantOutput: "node: edge-1 # DIR/collectord.yaml line 1"},
		{name: "print: the destination that is not set", args: "config print", config: "data_dir: DIR/data\n", wantOutput: "DIR/data/archive\" # default: archive in data_dir"},
		{name: "print: data_dir from where it is run", args: "config print", wantOutput: "data_dir: DIR/var # default"},
		{name: "print: a variable", args: "config print", env: []string{"COLLECTORD_HTTP_RATE=7"}, config: "http: {rate: 5}\n", wantOutput: "rate: 7 # COLLECTORD_HTTP_RATE"},
		{name: "print: a flag", args: "config print --seal-after 3s", env: []string{"COLLECTORD_WAL_SEAL_AFTER=9s"}, wantOutput: "seal_after: 3s # --seal-after"},
		{name: "print: a default that depends on another key", args: "config print --seal-after 3s", wantOutput: "seal_small_after: 3s # default: from wal.seal_after"},
		{name: "print: for programs", args: "config print --json", config: "node: edge-1\n", wantOutput: "\"node\": {\n    \"value\": \"edge-1\",\n    \"from\": \"DIR/collectord.yaml line 1\""},
		{name: "print: a mistake", args: "config print", config: "node: 'a b'\n", wantExit: 1, wantOutput: "node (DIR/collectord.yaml line 1)"},

		// A data_dir of a later version.
		{name: "run: LOG of a later version", args: "run", config: "data_dir: DIR/data\nhttp: {listen: 'localhost:PORT'}\nudp: {listen: off}\nadmin: {listen: off}\n", setUp: makeLaterLog, wantExit: 78, wantOutput: "a later version wrote DIR/data/wal/LOG: nothing was changed (install that version again)"},
		{name: "run: a segment of a later version", args: "run", config: "data_dir: DIR/data\nhttp: {listen: 'localhost:PORT'}\nudp: {listen: off}\nadmin: {listen: off}\n", setUp: makeLaterSegment, wantExit: 78, wantOutput: "a later version wrote DIR/data/wal/00000000000000000001: nothing was changed"},
		{name: "ship: LOG of a later version", args: "ship", config: "data_dir: DIR/data\n", setUp: makeLaterLog, wantExit: 1, wantOutput: "a later version wrote DIR/data/wal/LOG"},
		{name: "repair: LOG of a later version", args: "wal repair", config: "data_dir: DIR/data\n", setUp: makeLaterLog, wantExit: 1, wantOutput: "a later version wrote DIR/data/wal/LOG"},
		{name: "verify: a segment of a later version", args: "wal verify", config: "data_dir: DIR/data\n", setUp: makeLaterSegment, wantOutput: "skipped: segment 00000000000000000001"},

		// An archive of an earlier destination.
		{name: "ship: an archive that is not there", args: "ship --archive DIR/nothing", config: bucket, wantExit: 1, wantOutput: "DIR/nothing: no such file or directory"},
		{name: "ship: an archive that is a file", args: "ship --archive DIR/collectord.yaml", config: bucket, setUp: writeKeys, wantExit: 1, wantOutput: "DIR/collectord.yaml is not a directory"},
		{name: "ship: the archive is the destination", args: "ship --archive DIR/data/archive", config: "data_dir: DIR/data\n", setUp: makeDamagedArchive, wantExit: 1, wantOutput: "DIR/data/archive is the current destination: set shipper.destination"},
		{name: "ship: an empty archive", args: "ship --archive DIR/data/archive", config: bucket, setUp: setUpBoth(writeKeys, makeEmptyArchive), wantOutput: "brought 0 records in 0 objects and 0 loss notes from DIR/data/archive to s3://bucket/p"},
		{name: "ship: what is not ours stays", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: setUpBoth(makeEmptyArchive, addForeignFile), wantOutput: "brought 0 records"},
		{name: "ship: an object that is damaged", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: makeDamagedArchive, wantExit: 2, wantOutput: "not everything is shipped: 1 object left in DIR/data/archive"},
		{name: "ship: the damaged object is named", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: makeDamagedArchive, wantExit: 2, wantOutput: "archive; " + archiveKey + ": damaged after 0 records"},
		{name: "ship: an object that a power loss emptied", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: makeZeroLengthArchive, wantExit: 2, wantOutput: "archive; " + archiveKey + ": damaged after 0 records"},
		{name: "ship: a pipe under the name of an object", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: makePipeInArchive, wantExit: 2, wantOutput: "archive; " + archiveKey + ": damaged after 0 records: not a regular file"},
		{name: "ship: the storage is down", args: "ship --archive DIR/data/archive --give-up-after 1ms", config: bucket, setUp: setUpBoth(writeKeys, makeArchive), wantExit: 2, wantOutput: "nothing could be brought for 1ms"},
		{name: "ship: a folder to another", args: "ship --archive DIR/data/archive", config: "shipper: {destination: 'file://DIR/new'}\n", setUp: makeArchive, wantOutput: "brought 1 record in 1 object and 0 loss notes from DIR/data/archive to file://DIR/new"},
		{name: "ship: without an argument", args: "ship --archive", wantExit: 1, wantOutput: "flag needs an argument: --archive"},
	}
}

const archiveKey = "dt=2026-11-23/hour=08/edge-1-000000000000000a-00000000000000000001-00000000000000000001-000000000000000b.ndjson.zst"

func writeWithDirs(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func setUpBoth(a, b func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) { a(t, dir); b(t, dir) }
}

func writeKeys(t *testing.T, dir string) {
	writeWithDirs(t, dir+"/keys", []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"))
}

func makeEmptyArchive(t *testing.T, dir string) {
	writeWithDirs(t, dir+"/data/archive/_collectord/tmp/put-x-1", nil)
}

func addForeignFile(t *testing.T, dir string) {
	writeWithDirs(t, dir+"/data/archive/dt=2026-11-23/hour=08/notes.txt", []byte("x"))
}

// makeDamagedArchive makes an archive with a file that is not a valid object.
func makeDamagedArchive(t *testing.T, dir string) {
	writeWithDirs(t, dir+"/data/archive/"+archiveKey, []byte("x"))
}

func makeZeroLengthArchive(t *testing.T, dir string) {
	writeWithDirs(t, dir+"/data/archive/"+archiveKey, nil)
}

func makePipeInArchive(t *testing.T, dir string) {
	makeZeroLengthArchive(t, dir)
	path := dir + "/data/archive/" + archiveKey
	if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// makeArchive makes an archive with an object of one record.
func makeArchive(t *testing.T, dir string) {
	writeWithDirs(t, dir+"/data/archive/"+archiveKey, compress(t, `{"id":"019aaf5e-6c1e-7b3a-9c41-1f2e3d4c5b6a","received_at":"2026-11-23T08:30:12.123456Z","via":"http","client":null,"usage":{}}`+"\n"))
}

// withChecksum appends the checksum of the bytes, as in the file LOG.
func withChecksum(body string) []byte {
	return fmt.Appendf(nil, "%s %08x\n", body, crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)))
}

func makeLaterLog(t *testing.T, dir string) {
	writeWithDirs(t, dir+"/data/wal/LOG", withChecksum("collectord-log 2 0123456789abcdef -"))
}

func makeLaterSegment(t *testing.T, dir string) {
	header := append([]byte("\xffcdS\x02\x00\x00\x00"), make([]byte, 24)...)
	sum := crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli))
	header = append(header, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
	writeWithDirs(t, dir+"/data/wal/00000000000000000001/00000000000000000001", append([]byte{byte(len(header))}, header...))
}

func compress(t *testing.T, lines string) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll([]byte(lines), nil)
}
