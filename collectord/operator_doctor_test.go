package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"collectord/collectord/auth/authtest"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

func doctorSituations(situations map[string][]situation) {
	const listens = "http: {listen: 'localhost:PORT'}\nudp: {listen: 'localhost:PORT2'}\nadmin: {listen: 'localhost:PORT3'}\ndata_dir: DIR/data\n"
	const broken = "http: {listen: 'localhost:PORT', rate: fast}\nudp: {listen: off}\nadmin: {listen: off}\n"
	const named = "doctor --here --config DIR/written.yaml" // setUp writes the file
	situations["doctor"] = []situation{
		// The command.
		{name: "before the first start", args: "doctor", config: listens, wantOutput: "RIGHT: 0 errors, "},
		{name: "before the first start, as JSON", args: "doctor --json", config: listens, wantOutput: `"check": "config.valid",`},
		{name: "an unknown flag", args: "doctor --jso", wantExit: 1, wantOutput: "did you mean --json"},
		{name: "an argument", args: "doctor now", wantExit: 1, wantOutput: "takes flags only"},
		{name: "another name for the command", args: "diagnose", wantExit: 1, wantOutput: "did you mean collectord doctor?"},
		{name: "the user as whom files are checked", args: "doctor", config: listens, wantOutput: "checked as "},

		// The configuration.
		{name: "a wrong value", args: "doctor", config: broken, wantExit: 2, wantOutput: "error      http.rate             DIR/collectord.yaml line 1: "},
		{name: "the rest is checked all the same", args: "doctor", config: broken, wantExit: 2, wantOutput: "net.core.somaxconn is "},
		{name: "but not checks that need it", args: "doctor", config: "http: {listen: nowhere}\nudp: {listen: off}\nadmin: {listen: off}\n", wantExit: 2, wantOutput: "unchecked  all                   not checked: a key that this check needs has a mistake"},
		{name: "a file that is not there", args: "doctor --config DIR/none", wantExit: 2, wantOutput: "NOT RIGHT: 1 error"},
		{name: "a warning", args: "doctor", config: "udp: {listen: 'localhost:PORT', allow: 224.0.0.0/4}\nhttp: {listen: off}\nadmin: {listen: off}\n", wantOutput: "warning    warning               udp.allow 224.0.0.0/4 matches no sender: no datagram comes from such an address"},
		{name: "which clients can send", args: "doctor", config: listens, wantOutput: "anyone on this host may send"},
		{name: "which clients can send with a token", args: "doctor", config: "http: {listen: 'localhost:PORT', tokens_file: DIR/tokens}\nudp: {listen: off}\nadmin: {listen: off}\n", setUp: withFile("tokens", oneToken), wantOutput: "whoever presents one of 1 token may send"},
		{name: "no UDP", args: "doctor", config: "udp: {listen: off}\nhttp: {listen: 'localhost:PORT'}\nadmin: {listen: off}\n", wantOutput: "no client can send: udp.listen is off"},
		{name: "how long it waits", args: "doctor", config: listens + "wal: {max_bytes: 1GiB, when_full: drop_oldest}\n", wantOutput: "up to 1 GiB of usages wait in DIR/data (wal.max_bytes); then the oldest usages are deleted"},
		{name: "which usages a power loss loses", args: "doctor", config: listens + "wal: {sync: interval, sync_interval: 250ms}\n", wantOutput: "a power loss loses the usages that were answered in the last 250ms"},

		// Ports.
		{name: "a port that is free", args: "doctor", config: listens, wantOutput: "tcp 127.0.0.1:PORT is free"},
		{name: "a port that another program has", args: named, setUp: occupyPort, wantExit: 2, wantOutput: fmt.Sprintf("(process %d)", os.Getpid())},
		{name: "a unix socket that another program has", args: named, setUp: occupySocket, wantExit: 2, wantOutput: fmt.Sprintf("is in use by process %d", os.Getpid())},
		{name: "a free unix socket", args: "doctor", config: "http: {listen: 'unix:DIR/http'}\nudp: {listen: off}\nadmin: {listen: off}\n", wantOutput: "unix:DIR/http is free"},
		{name: "an address that the host lacks", args: "doctor", config: "http: {listen: '192.0.2.1:PORT', anonymous: true}\nudp: {listen: off}\nadmin: {listen: off}\n", wantExit: 2, wantOutput: "is not an address of this host"},

		// Files.
		{name: "tokens that all can read", args: "doctor", config: "http: {listen: 'localhost:PORT', tokens_file: DIR/tokens}\nudp: {listen: off}\nadmin: {listen: off}\n", setUp: withReadableFile("tokens", oneToken), wantOutput: "-> chmod 640 DIR/tokens"},
		{name: "tokens that are missing", args: "doctor", config: "http: {listen: 'localhost:PORT', tokens_file: DIR/tokens}\nudp: {listen: off}\nadmin: {listen: off}\n", wantExit: 2, wantOutput: "error      http.tokens_file"},
		{name: "a certificate that expired", args: named, setUp: withCertificate(-time.Hour), wantExit: 2, wantOutput: "error      certificate           http.tls.cert DIR/cert expired on"},
		{name: "a certificate that expires soon", args: named, setUp: withCertificate(20 * 24 * time.Hour), wantOutput: "in 19 days\n                                   -> replace it, and reload"},
		{name: "a certificate that is good", args: named, setUp: withCertificate(31 * 24 * time.Hour), wantOutput: "is valid until"},
		{name: "a key of another certificate", args: named, setUp: setUpBoth(withCertificate(time.Hour), replaceKey), wantExit: 2, wantOutput: "error      http.tls.key"},

		// data_dir, and the log.
		{name: "a data_dir that is a file", args: "doctor --data-dir DIR/keys", config: listens, setUp: writeKeys, wantExit: 2, wantOutput: "error      data_dir "},
		{name: "a data_dir that all can read", args: "doctor", config: listens, setUp: makeWorldReadableData, wantOutput: "every user of this host can read the usages in it"},
		{name: "how long a sync takes", args: "doctor", config: listens, setUp: makeWorldReadableData, wantOutput: "fsync                 median "},
		{name: "a disk that is too small", args: "doctor", config: listens + "wal: {max_bytes: 1TiB}\n", wantOutput: "the disk is full before the log is"},
		{name: "a log that is a link to nothing", args: "doctor", config: listens, setUp: withLink("data/wal", "nothing"), wantExit: 2, wantOutput: "error      parts                 DIR/data/wal is a broken symbolic link: nothing is taken in until its target exists\n", unwantedOutput: "a start accepts it"},
		{name: "a spool that is a link to nothing", args: "doctor", config: listens, setUp: withLink("data/spool", "nothing"), wantExit: 2, wantOutput: "DIR/data/spool is a broken symbolic link: nothing is shipped until its target exists\n"},
		{name: "loss notes that are a link to nothing", args: "doctor", config: listens, setUp: withLink("data/wal/lost", "nothing"), wantOutput: "warning    warning               DIR/data/wal/lost is a broken symbolic link: "},
		{name: "a file put aside", args: "doctor", config: listens, setUp: makeQuarantine, wantOutput: "1 put aside: wal/quarantine/strange"},
		{name: "a daemon that hangs", args: "doctor", config: listens, setUp: lockDataDir, wantOutput: " has locked DIR/data) and does not answer (it hangs, or was started with another admin.listen)"},
		{name: "usages that wait for a daemon", args: "doctor", config: listens, setUp: makeUnshippedLog, wantOutput: "and no daemon is running\n                                   -> start the daemon"},
		{name: "a clock that went back", args: "doctor", config: listens, setUp: setUpBoth(makeUnshippedLog, setModifiedTomorrow), wantExit: 2, wantOutput: "the clock was set back, or was ahead then"},

		// Destinations.
		{name: "a folder", args: "doctor", config: listens, wantOutput: "collectord never deletes objects there"},
		{name: "a folder that is a file", args: "doctor", config: listens + "shipper: {destination: 'file://DIR/keys'}\n", setUp: writeKeys, wantExit: 2, wantOutput: "DIR/keys can't be used, and nothing is shipped until it can: "},
		{name: "a storage that is away", args: "doctor", config: listens + "shipper: {destination: 's3://bucket/p', s3: {endpoint: 'http://127.0.0.1:1', region: x, credentials_file: DIR/keys}}\n", setUp: writeKeys, wantExit: 2, wantOutput: "unchecked  tls, answer, credentials, bucket, put, conditional_put, checksum, encryption, storage_class, read, metadata, list  not checked: connection comes first"},
		{name: "a name that is wrong", args: "doctor", config: listens + "shipper: {destination: 's3://bucket/p', s3: {endpoint: 'http://storage.invalid', region: x, credentials_file: DIR/keys}}\n", setUp: writeKeys, wantExit: 2, wantOutput: "-> is the name in shipper.s3.endpoint right"},
		{name: "a storage", args: named, setUp: withStorage(s3test.Behaviour{}), wantOutput: "ok         read                  the object that was put was read back"},
		{name: "a wrong bucket", args: named, setUp: withStorage(refusingAll(404, "NoSuchBucket")), wantExit: 2, wantOutput: "-> create the bucket bucket, or correct shipper.destination"},
		{name: "an expired key", args: named, setUp: withStorage(refusingAll(403, "ExpiredToken")), wantExit: 2, wantOutput: "error      credentials "},
		{name: "no permission", args: named, setUp: withStorage(refusingAll(403, "AccessDenied")), wantExit: 2, wantOutput: "-> the key needs s3:PutObject"},
		{name: "a clock of an hour ago", args: named, setUp: withStorage(withDateAhead(time.Hour + 30*time.Second)), wantExit: 2, wantOutput: "error      storage               the clock is 1h0m"},
		{name: "a clock that is right", args: named, setUp: withStorage(s3test.Behaviour{}), wantOutput: "the clock agrees with the storage's"},
	}
}

// writeConfig writes the configuration file of a row of doctorSituations.
func writeConfig(t *testing.T, dir, text string) {
	writeWithDirs(t, dir+"/written.yaml", []byte("data_dir: "+dir+"/data\nudp: {listen: off}\nadmin: {listen: off}\n"+text))
}

var oneToken = "edge-1 sha256:" + strings.Repeat("0", 64) + "\n"

func makeWorldReadableData(t *testing.T, dir string) {
	if err := errors.Join(os.Mkdir(dir+"/data", 0o750), os.Chmod(dir+"/data", 0o755)); err != nil { //nolint:gosec // on purpose
		t.Fatal(err)
	}
}

func occupyPort(t *testing.T, dir string) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	writeConfig(t, dir, "http: {listen: '"+ln.Addr().String()+"'}\n")
}

func occupySocket(t *testing.T, dir string) {
	ln, err := net.Listen("unix", dir+"/http")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	writeConfig(t, dir, "http: {listen: 'unix:"+dir+"/http'}\n")
}

func withCertificate(left time.Duration) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		cert, key := authtest.NewAuthority(t).Issue(t, x509.ExtKeyUsageServerAuth, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(left) })
		writeWithDirs(t, dir+"/cert", cert)
		writeWithDirs(t, dir+"/key", key)
		writeConfig(t, dir, "http: {listen: 'localhost:0', tls: {cert: "+dir+"/cert, key: "+dir+"/key}}\n")
	}
}

func replaceKey(t *testing.T, dir string) {
	_, key := authtest.NewAuthority(t).Issue(t, x509.ExtKeyUsageServerAuth, func(*x509.Certificate) {})
	writeWithDirs(t, dir+"/key", key)
}

func makeQuarantine(t *testing.T, dir string) {
	writeWithDirs(t, dir+"/data/wal/quarantine/strange", []byte("x"))
}

// makeUnshippedLog makes a log with a sealed segment.
func makeUnshippedLog(t *testing.T, dir string) {
	log, err := wal.Open(dir+"/data", wal.Options{Node: "edge-1"})
	if err == nil {
		err = errors.Join(log.Append(t.Context(), wal.Record{Usage: []byte("{}")}), log.Seal(t.Context()), log.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func setModifiedTomorrow(t *testing.T, dir string) {
	files, err := filepath.Glob(dir + "/data/wal/*-*/*")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	tomorrow := time.Now().Add(24 * time.Hour)
	if err := os.Chtimes(files[0], tomorrow, tomorrow); err != nil {
		t.Fatal(err)
	}
}

func refusingAll(status int, code string) s3test.Behaviour {
	return s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Error(w, status, code) }}
}

// withDateAhead returns the behaviour of a storage whose clock is ahead.
func withDateAhead(ahead time.Duration) s3test.Behaviour {
	return s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		return false
	}}
}

func withStorage(b s3test.Behaviour) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		fake := fakeStorage(t, b)
		writeKeys(t, dir)
		writeConfig(t, dir, "http: {listen: off}\n"+storageSettings(fake, dir))
	}
}

func fakeStorage(t *testing.T, b s3test.Behaviour) *s3test.Server {
	t.Helper()
	fake, err := s3test.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	fake.Behave(b)
	return fake
}

func storageSettings(fake *s3test.Server, dir string) string {
	return "shipper: {destination: 's3://bucket/p', keep: 0s, s3: {endpoint: '" + fake.URL + "', region: x, credentials_file: " + dir + "/keys}}\n"
}
