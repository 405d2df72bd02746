package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/testrun"
)

// misconfigured has configurations with a mistake, and the expected line. Both config check
// (exit 2) and run (exit 78) report it.
var misconfigured = []situation{
	// The storage.
	{name: "an endpoint with a wrong scheme", config: s3Config("ftp://h:9000"), wantOutput: `shipper.s3.endpoint (DIR/collectord.yaml line 3): "ftp://h:9000" has a scheme other than http and https`},
	{name: "an endpoint with a port too high", config: s3Config("http://h:99999"), wantOutput: `"http://h:99999" has no port from 1 to 65535`},
	{name: "an endpoint with a port of letters", config: s3Config("http://h:abc"), wantOutput: `"http://h:abc" has no port from 1 to 65535`},
	{name: "an endpoint without its port", config: s3Config("http://h:"), wantOutput: `"http://h:" has no port from 1 to 65535`},
	{name: "an endpoint with a path", config: s3Config("http://h:9000/bucket"), wantOutput: `"http://h:9000/bucket" has something behind the host and port: bucket and prefix belong in shipper.destination`},
	{name: "an endpoint with a query", config: s3Config("https://h?x=y"), wantOutput: `"https://h?x=y" has something behind the host and port`},
	{name: "an endpoint with a blank", config: s3Config("http://h:9000 "), wantOutput: `"http://h:9000 " contains a blank`},
	{name: "an endpoint without a host", config: s3Config("http://:9000"), wantOutput: `"http://:9000" names no host`},
	{name: "an endpoint with a password", config: s3Config("http://me:secret@h"), wantOutput: "contains a user name or password, but its value is printed and logged: credentials belong in shipper.s3.credentials_file", unwantedOutput: "secret@h"},
	{name: "a destination with a password", config: "data_dir: DIR/data\nshipper: {destination: 's3://KEY:secret@abc/p'}\n", wantOutput: "credentials belong in shipper.s3.credentials_file", unwantedOutput: "secret@abc"},
	{name: "an endpoint in the place of a destination", config: destinationConfig("https://KEY:sec/ret@h/abc"), wantOutput: `"https://…@h/abc" is neither file:///path nor s3://bucket/prefix`, unwantedOutput: "sec/ret"},
	{name: "an origin with a password", config: "data_dir: DIR/data\nhttp: {origins: 'https://a, https://me:secret@h'}\n", wantOutput: "is not an origin as browsers send it", unwantedOutput: "secret"},
	{name: "keys that are a pipe", config: s3Config("https://h", "credentials_file: DIR/pipe"), setUp: withPipe("pipe"), wantOutput: `shipper.s3.credentials_file (DIR/collectord.yaml line 3): "DIR/pipe" is not a regular file`},
	{name: "authorities in a directory", config: s3Config("https://h", "ca_file: DIR"), wantOutput: `shipper.s3.ca_file (DIR/collectord.yaml line 3): "DIR" is a directory: name a file`},
	{name: "a bucket with a short name", config: destinationConfig("s3://b/p"), wantOutput: `shipper.destination (DIR/collectord.yaml line 2): "s3://b/p" names the bucket "b", which is too short`},
	{name: "a bucket with two dots", config: destinationConfig("s3://a..b/p"), wantOutput: `names the bucket "a..b": a dot in a name has a letter or digit on both sides`},
	{name: "a bucket with a dot and a hyphen", config: destinationConfig("s3://a-.b"), wantOutput: `names the bucket "a-.b": a dot in a name has`},
	{name: "a bucket that is an address", config: destinationConfig("s3://192.168.1.1/p"), wantOutput: `names the bucket "192.168.1.1", which looks like an IP address: write the address in shipper.s3.endpoint`},
	{name: "a prefix that leaves no room", config: destinationConfig("s3://abc/" + strings.Repeat("p", 801)), wantOutput: "has a prefix of more than 800 characters"},
	{name: "a folder that is the root in disguise", config: destinationConfig("file:///srv/.."), wantOutput: "names no folder: write file:///path"},
	{name: "a folder with a NUL", config: destinationConfig("file:///srv/%00x"), wantOutput: "contains %00, which no path can contain"},
	{name: "a prefix with an empty component", config: destinationConfig("s3://abc/a//b"), wantOutput: "has a prefix with an empty component"},
	{name: "a prefix with a dot", config: destinationConfig("s3://abc/./b"), wantOutput: `has a prefix with the component "."`},
	{name: "a prefix with two dots", config: destinationConfig("s3://abc/../b"), wantOutput: `has a prefix with the component ".."`},
	{name: "a destination that is a path", config: destinationConfig("/srv/archive"), wantOutput: "is neither file:///path nor s3://bucket/prefix"},
	{name: "a folder with a question mark", config: destinationConfig("file:///srv/a?b"), wantOutput: "has a ? or # in the path: write %3F or %23"},
	{name: "a folder with a lone percent sign", config: destinationConfig("file:///srv/100%"), wantOutput: "write %25 for %"},
	{name: "a folder in the home directory", config: destinationConfig("file:///~/archive"), wantOutput: "begins with ~, which only shells expand"},
	{name: "no endpoint and no region", config: "data_dir: DIR/data\nshipper: {destination: 's3://abc/p'}\n", wantOutput: "shipper.s3.endpoint (default): is empty, which means AWS: set shipper.s3.region"},
	{name: "a region with a blank", config: "data_dir: DIR/data\nshipper: {destination: 's3://abc/p', s3: {region: 'eu west'}}\n", wantOutput: `shipper.s3.region (DIR/collectord.yaml line 2): "eu west" may contain letters`},
	{name: "a CA file that is missing", config: s3Config("https://h", "ca_file: DIR/ca"), wantOutput: "shipper.s3.ca_file (DIR/ca): no such file"},
	{name: "a CA file without a certificate", config: s3Config("https://h", "ca_file: DIR/collectord.yaml"), wantOutput: "shipper.s3.ca_file (DIR/collectord.yaml): contains no PEM certificate"},
	{name: "a credentials file that is missing", config: s3Config("https://h", "credentials_file: DIR/keys"), wantOutput: "shipper.s3.credentials_file (DIR/keys): no such file"},
	{name: "a credentials file without the profile", config: s3Config("https://h", "credentials_file: DIR/keys"), setUp: withFile("keys", "[prod]\n"), wantOutput: `shipper.s3.credentials_file (DIR/keys): it has no profile "default"`},
	{name: "a credentials file without a secret", config: s3Config("https://h", "credentials_file: DIR/keys"), setUp: withFile("keys", "[default]\naws_access_key_id = AKIA\n"), wantOutput: "a key and its secret are needed", unwantedOutput: "AKIA"},
	{name: "keys of the environment in a pipe", config: s3Config("https://h"), env: []string{"AWS_SHARED_CREDENTIALS_FILE=DIR/pipe"}, setUp: withPipe("pipe"), wantOutput: "shipper.s3.credentials_file (DIR/pipe): is not a regular file"},
	{name: "keys of the environment in a device", config: s3Config("https://h"), env: []string{"AWS_SHARED_CREDENTIALS_FILE=/dev/zero"}, wantOutput: "shipper.s3.credentials_file (/dev/zero): is not a regular file"},
	{name: "keys of the environment in a huge file", config: s3Config("https://h"), env: []string{"AWS_SHARED_CREDENTIALS_FILE=DIR/keys"}, setUp: withHugeFile("keys"), wantOutput: "shipper.s3.credentials_file (DIR/keys): has more than 16MiB"},
	{name: "a systemd credential that is a pipe", config: s3Config("https://h"), env: []string{"CREDENTIALS_DIRECTORY=DIR"}, setUp: withPipe("s3-credentials"), wantOutput: "shipper.s3.credentials_file (DIR/s3-credentials): is not a regular file"},
	{name: "keys in the environment without a secret", config: s3Config("https://h"), env: []string{"AWS_ACCESS_KEY_ID=AKIA", "AWS_SECRET_ACCESS_KEY="}, wantOutput: "shipper.s3.credentials_file (the AWS_* variables): "},

	// Directories.
	{name: "a data_dir in the home directory", config: "data_dir: ~/usages\n", wantOutput: `data_dir (DIR/collectord.yaml line 1): "~/usages" begins with ~, which only shells expand: write out the path`},
	{name: "a tokens file in the home directory", config: "data_dir: DIR/data\nhttp: {tokens_file: ~/tokens}\n", wantOutput: `http.tokens_file (DIR/collectord.yaml line 2): "~/tokens" begins with ~`},
	{name: "a data_dir with a variable", config: "data_dir: ${HOME}/usages\n", wantOutput: `data_dir (DIR/collectord.yaml line 1): "${HOME}/usages" contains a variable ($), which only shells expand`},
	{name: "a folder with a variable", config: destinationConfig("file:///$HOME/archive"), wantOutput: "contains a variable ($), which only shells expand"},
	{name: "a data_dir that is relative", config: "data_dir: collectord.yaml/x\n", wantOutput: "; collectord.yaml/x is below DIR, where this was started: set an absolute path"},
	{name: "a data_dir that is a file", config: "data_dir: DIR/collectord.yaml\n", wantOutput: "data_dir (DIR/collectord.yaml line 1): DIR/collectord.yaml is not a directory"},
	{name: "a data_dir below a file", config: "data_dir: DIR/collectord.yaml/data\n", wantOutput: "DIR/collectord.yaml/data is not a directory, or a part of its path is not"},
	{name: "a data_dir in the files of the kernel", config: "data_dir: /proc/usages\n", wantOutput: "data_dir (DIR/collectord.yaml line 1): " + map[bool]string{true: "/proc has files of the kernel only, so that /proc/usages can't be made", false: "can't use /proc"}[os.Geteuid() == 0]},
	{name: "a data_dir that is a link to nothing", config: "data_dir: DIR/data\n", setUp: withLink("data", "nothing"), wantOutput: "DIR/data is a broken symbolic link"},

	// Which clients can send.
	{name: "a tokens file that is a pipe", config: "data_dir: DIR/data\nhttp: {tokens_file: DIR/pipe}\n", setUp: withPipe("pipe"), wantOutput: `http.tokens_file (DIR/collectord.yaml line 2): "DIR/pipe" is not a regular file`},
	{name: "a tokens file that is huge", config: "data_dir: DIR/data\nhttp: {tokens_file: DIR/tokens}\n", setUp: withHugeFile("tokens"), wantOutput: `"DIR/tokens" has more than 16MiB: name another file`},
	{name: "a certificate and a key that are pipes", config: "data_dir: DIR/data\nhttp: {tls: {cert: DIR/pipe, key: DIR/pipe}}\n", setUp: withPipe("pipe"), wantOutput: "the configuration has 2 mistakes"},
	{name: "a certificate in the file of its key", config: "data_dir: DIR/data\nhttp: {tls: {cert: DIR/collectord.yaml, key: DIR/collectord.yaml}}\n", wantOutput: "http.tls.cert (DIR/collectord.yaml): contains no certificate"},
	{name: "a tokens file that is missing", config: "data_dir: DIR/data\nhttp: {tokens_file: DIR/tokens}\n", wantOutput: "http.tokens_file (DIR/tokens): no such file"},
	{name: "a credential outside of the service", config: "data_dir: DIR/data\nhttp: {tokens_file: tokens}\n", wantOutput: "http.tokens_file (tokens): no such file or directory (a name without a slash is a credential in the $CREDENTIALS_DIRECTORY of systemd"},
	{name: "a client that is called ..", config: "data_dir: DIR/data\nhttp: {tokens_file: DIR/tokens}\n", setUp: withFile("tokens", ".. sha256:"+strings.Repeat("0", 64)+"\n"), wantOutput: "http.tokens_file (DIR/tokens line 1): does not begin with a name"},
	{name: "a node that is called ..", config: "data_dir: DIR/data\nnode: ..\n", wantOutput: `node (DIR/collectord.yaml line 2): ".." is not a name: it stands for a directory`},
	{name: "a node whose objects Spark would skip", config: "data_dir: DIR/data\nnode: _edge\n", wantOutput: `node (DIR/collectord.yaml line 2): "_edge" begins with a dot or an underscore: Spark, Hive and other readers skip objects with such names`},
	{name: "a node that is called .", config: "data_dir: DIR/data\n", env: []string{"COLLECTORD_NODE=."}, wantOutput: `node (COLLECTORD_NODE): "." is not a name`},
	{name: "networks of IPv4 as those of IPv6", config: "data_dir: DIR/data\nudp: {allow: '::ffff:0:0/90'}\n", wantOutput: "udp.allow (DIR/collectord.yaml line 2): \"::ffff:0:0/90\" matches no sender"},
	{name: "every network that is wrong", config: "data_dir: DIR/data\nudp: {allow: '10.0.0.0, fd00::/8, 10.0.0.0/33'}\n", wantOutput: "the configuration has 2 mistakes"},

	// Listeners.
	{name: "every address that is wrong", config: "data_dir: DIR/data\nhttp: {listen: 'localhost, h:3000, localhost:PORT'}\n", wantOutput: "the configuration has 2 mistakes"},
	{name: "an address that is wrong beside one that is open", config: "data_dir: DIR/data\nhttp: {listen: 'h:3000, 0.0.0.0:PORT'}\n", wantOutput: "0.0.0.0:PORT can be reached from other hosts, and anyone there could post"},
	{name: "listeners beside another mistake", config: "data_dir: DIR/data\nnode: ..\nhttp: {listen: '0.0.0.0:PORT'}\nudp: {listen: '0.0.0.0:PORT'}\n", wantOutput: "the configuration has 3 mistakes"},
	{name: "a unix socket in no directory", config: "data_dir: DIR/data\nhttp: {listen: 'unix:DIR/none/s'}\n", wantOutput: "http.listen (DIR/collectord.yaml line 2): unix:DIR/none/s can't be bound: its directory does not exist"},
	{name: "a unix socket in the place of a file", config: "data_dir: DIR/data\nadmin: {listen: 'unix:DIR/collectord.yaml'}\n", wantOutput: "admin.listen (DIR/collectord.yaml line 2): unix:DIR/collectord.yaml can't be bound: there is a file of this name that is not a socket"},

	{name: "a unix socket with a NUL", config: "data_dir: DIR/data\nhttp: {listen: \"unix:DIR/a\\0b\"}\n", wantOutput: "names a unix socket without an absolute path"},
	{name: "a unix socket in two spellings", config: "data_dir: DIR/data\nhttp: {listen: 'unix:DIR/s'}\nadmin: {listen: 'unix:DIR/./s'}\n", wantOutput: "admin.listen (DIR/collectord.yaml line 3): unix:DIR/./s and unix:DIR/s in http.listen can't both be bound"},
	{name: "an address of every interface", config: "data_dir: DIR/data\nhttp: {anonymous: true, listen: '[fe80::1]:PORT'}\n", wantOutput: "is an address that each interface has: add the interface, as in [fe80::1%eth0]:3000"},
	{name: "a multicast address of every interface", config: "data_dir: DIR/data\nudp: {allow: '::/0', listen: '[ff02::1]:PORT'}\n", wantOutput: "is an address that each interface has"},
	{name: "three addresses that are wrong", config: "data_dir: DIR/data\nhttp: {listen: 'a, b, c'}\n", wantOutput: "the configuration has 3 mistakes"},

	// The file.
	{name: "a file that is missing", args: "--config DIR/none.yaml", wantOutput: "configuration (DIR/none.yaml): can't be read: no such file"},
	{name: "a file that is not YAML", config: "data_dir: DIR/data\n\tnode: a\n", wantOutput: "configuration (DIR/collectord.yaml): line 2 is indented with a tab: YAML needs blanks"},
	{name: "a tab before the first key", config: "\thttp: {listen: off}\n", wantOutput: "line 1 is indented with a tab"},
	{name: "a tab that is no indentation", config: "node: \"a\n\tb\n", wantOutput: "found unexpected end of stream"},
	{name: "a YAML anchor", config: "data_dir: DIR/data\nhttp: &a {listen: off}\nadmin: *a\n", wantOutput: "admin (DIR/collectord.yaml line 3): YAML anchors, aliases and merge keys (&a, *a, <<) are not supported"},
	{name: "a YAML merge key", config: "data_dir: DIR/data\nhttp:\n  <<: {listen: off}\n", wantOutput: "http (DIR/collectord.yaml line 3): YAML anchors"},
	{name: "a variable that explains a mistake", config: "data_dir: DIR/data\nhttp: {listen: '0.0.0.0:PORT'}\n", env: []string{"COLLECTORD_HTTP_TOKENSFILE=/t"}, wantOutput: "warning: the variable COLLECTORD_HTTP_TOKENSFILE sets nothing; the nearest is COLLECTORD_HTTP_TOKENS_FILE"},
	{name: "a configuration that is a pipe", args: "--config DIR/pipe", setUp: withPipe("pipe"), wantOutput: "configuration (DIR/pipe): is not a regular file, and can't be read again at a reload: write its content to a file"},
	{name: "a configuration that is a directory", args: "--config DIR", wantOutput: "configuration (DIR): is a directory: name a file"},
	{name: "a configuration that never ends", args: "--config /dev/zero", wantOutput: "configuration (/dev/zero): is not a regular file"},
	{name: "a configuration without a name", args: "--config=", wantOutput: "configuration (--config): names no file: name one, or leave the flag out"},
	{name: "two configurations", args: "--config DIR/collectord.yaml --config DIR/other.yaml", config: "data_dir: DIR/data\n", wantOutput: "configuration (--config): is given twice: a configuration is one file"},
	{name: "a section in capitals", config: "HTTP: {listen: off}\n", wantOutput: "HTTP (DIR/collectord.yaml line 1): is not a key; the nearest is http\n"},
	{name: "a secret in the configuration", config: "shipper: {s3: {secret_access_key: x}}\n", wantOutput: "shipper.s3.secret_access_key (DIR/collectord.yaml line 1): is not a key; keys are not written here, but in the file that shipper.s3.credentials_file names"},
	{name: "a bucket by its name", config: "shipper: {s3: {bucket: usages}}\n", wantOutput: "is not a key; bucket and prefix, or a folder, belong in shipper.destination"},
	{name: "a port of its own", config: "http: {port: 3000}\n", wantOutput: "is not a key; an address and its port belong in http.listen"},
	{name: "a configuration without keys", config: "DIR/data\n", wantOutput: "configuration (DIR/collectord.yaml line 1): contains no keys: write a line of the form key: value"},
	{name: "an alias without its anchor", config: "node: *a\n", wantOutput: "configuration (DIR/collectord.yaml): YAML anchors, aliases and merge keys (&a, *a, <<) are not supported"},
	{name: "a section that is misspelt", config: "data_dir: DIR/data\nshiper: {destination: 's3://abc/p'}\n", wantOutput: "shiper (DIR/collectord.yaml line 2): is not a key; the nearest is shipper\n"},
}

// questionable has configurations that are valid but probably not intended.
var questionable = []situation{
	{name: "keys that others can read", config: s3Config("https://h", "credentials_file: DIR/keys"), setUp: withReadableFile("keys", "[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), wantOutput: "warning: shipper.s3.credentials_file DIR/keys can be read or changed by everyone on this host (mode 0644): chmod 640 DIR/keys"},
	{name: "keys of a credential that others can read", config: s3Config("https://h"), env: []string{"CREDENTIALS_DIRECTORY=DIR"}, setUp: withReadableFile("s3-credentials", "[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), wantOutput: "DIR/s3-credentials can be read or changed by everyone"},
	{name: "a program that has the keys", config: s3Config("https://h", "credentials_file: DIR/keys"), setUp: withFile("keys", "[default]\ncredential_process = /bin/false\n"), wantOutput: "the configuration is valid"},
	{name: "plaintext beyond the host", config: s3Config("http://minio.example:9000"), wantOutput: "warning: shipper.s3.endpoint http://minio.example:9000 is not encrypted"},
	{name: "plaintext on the host", config: s3Config("http://[::1]:9000"), wantOutput: "the configuration is valid", unwantedOutput: "not encrypted"},
	{name: "a network of a family that is not listened on", config: "data_dir: DIR/data\nudp: {listen: '0.0.0.0:PORT', allow: 'fd00::/8, 10.0.0.0/8'}\n", wantOutput: "warning: udp.allow fd00::/8 matches no sender: udp.listen has no IPv6 address"},
	{name: "an IPv4 network as one of IPv6", config: "data_dir: DIR/data\nudp: {listen: '127.0.0.1:PORT', allow: '::ffff:127.0.0.1/128'}\n", wantOutput: "the configuration is valid", unwantedOutput: "matches no sender"},
	{name: "an address of another host", config: "data_dir: DIR/data\nadmin: {listen: '192.0.2.7:PORT'}\n", wantOutput: "warning: admin.listen 192.0.2.7:PORT is not an address of this host now"},
	{name: "a unix socket that the service manager may have a directory for", config: "data_dir: DIR/data\nhttp: {listen: 'unix:/run/collectord-none/s'}\n", wantOutput: "warning: http.listen unix:/run/collectord-none/s can't be bound now: its directory does not exist"},
	{name: "authorities that others can change", config: s3Config("https://h", "ca_file: DIR/ca.pem"), setUp: func(t *testing.T, dir string) {
		if err := os.Chmod(newAuthority(t, dir).path, 0o646); err != nil {
			t.Fatal(err)
		}
	}, wantOutput: "warning: shipper.s3.ca_file DIR/ca.pem can be changed by everyone on this host (mode 0646): chmod 644 DIR/ca.pem"},
	{name: "a folder that can't be used", config: "data_dir: DIR/data\nshipper: {destination: 'file://DIR/collectord.yaml'}\n", wantOutput: "warning: shipper.destination file://DIR/collectord.yaml can't be used, and nothing is shipped until it can"},
	{name: "a log that is a link to nothing", config: "data_dir: DIR\n", setUp: withLink("wal", "nothing"), wantOutput: "warning: DIR/wal is a broken symbolic link: nothing is taken in until its target exists"},
	{name: "a spool that is a link to nothing", config: "data_dir: DIR\n", setUp: withLink("spool", "nothing"), wantOutput: "warning: DIR/spool is a broken symbolic link: nothing is shipped until its target exists"},
	{name: "loss notes that are a link to nothing", config: "data_dir: DIR\n", setUp: withLink("wal/lost", "nothing"), wantOutput: "warning: DIR/wal/lost is a broken symbolic link: lost usages can be noted neither here nor at the destination until its target exists"},
	{name: "a proxy with a wrong port", config: s3Config("https://h"), env: []string{"HTTPS_PROXY=http://me:hunter2@proxy:31x"}, wantOutput: "warning: the variable HTTPS_PROXY is not a URL: the storage is reached without the proxy, or not at all: write http://host:port", unwantedOutput: "hunter2"},
	{name: "a proxy with a password that is not escaped", config: s3Config("http://h:9000"), env: []string{"http_proxy=http://me:12#hunter2@proxy:3128"}, wantOutput: "warning: the variable http_proxy has a user or password with /, ? or #", unwantedOutput: "hunter2"},
	{name: "a proxy with a line break", config: s3Config("https://h"), env: []string{"https_proxy=http://me:hunter2@proxy:3128\r"}, wantOutput: "warning: the variable https_proxy contains a blank or a line break", unwantedOutput: "hunter2"},
	{name: "an exception from the proxy that is a URL", config: s3Config("https://h"), env: []string{"HTTPS_PROXY=http://proxy:3128", "NO_PROXY=localhost,https://me:hunter2@h"}, wantOutput: `warning: the variable NO_PROXY: the entry "h" matches no host: write the host without scheme`, unwantedOutput: "hunter2"},
	{name: "a malformed proxy that is not used", config: s3Config("http://127.0.0.1:9000"), env: []string{"HTTP_PROXY=ftp://proxy", "HTTPS_PROXY=ftp://proxy", "NO_PROXY=a b"}, wantOutput: "the configuration is valid", unwantedOutput: "PROXY"},
	{name: "a malformed proxy and a folder", config: "data_dir: DIR/data\n", env: []string{"HTTP_PROXY=ftp://proxy", "NO_PROXY=a b"}, wantOutput: "the configuration is valid", unwantedOutput: "PROXY"},
	{name: "the variable of send", config: "data_dir: DIR/data\n", env: []string{"COLLECTORD_TOKEN=cd_x"}, wantOutput: "the configuration is valid", unwantedOutput: "COLLECTORD_TOKEN"},
	{name: "a variable that is misspelt", config: "data_dir: DIR/data\n", env: []string{"COLLECTORD_HTTP_LISTN=off"}, wantOutput: "warning: the variable COLLECTORD_HTTP_LISTN sets nothing; the nearest is COLLECTORD_HTTP_LISTEN"},
}

func validationSituations(situations map[string][]situation) {
	for i, s := range misconfigured {
		check, run := s, s
		check.name, check.args, check.wantExit = "check: "+s.name, "config check "+s.args, exitNotRight
		run.name, run.args, run.wantExit = "run: "+s.name, "run "+s.args, exitBadConfig
		situations["validation"] = append(situations["validation"], check)
		if i%testrun.OneIn(5) == 0 { // run has the same checks; TEST_ALL=1 tries all of them
			situations["validation"] = append(situations["validation"], run)
		}
	}
	for _, s := range questionable {
		s.args = "config check"
		situations["warnings"] = append(situations["warnings"], s)
	}
	// The output has a line for every address that can't be bound.
	for _, which := range []string{"http.listen: listen tcp4 192.0.2.7:PORT:", "http.listen: listen tcp4 192.0.2.7:PORT2:", "admin.listen: listen tcp4 192.0.2.7:PORT3:", "udp.listen: listen udp4 192.0.2.7:PORT:"} {
		situations["bind"] = append(situations["bind"], situation{
			name: which, args: "run", wantExit: exitError, wantOutput: "collectord: " + which,
			config: "data_dir: DIR/data\nhttp: {anonymous: true, listen: '192.0.2.7:PORT,192.0.2.7:PORT2'}\nudp: {listen: '192.0.2.7:PORT', allow: 0.0.0.0/0}\nadmin: {listen: '192.0.2.7:PORT3'}\n",
		})
	}
	situations["names"] = []situation{
		{name: "a token for .", args: "token new .", wantExit: exitError, wantOutput: "is not a name of 1 to 63 letters, digits, dots, underscores and hyphens (. and .. are not allowed)"},
		{name: "a user that does not exist", args: "config check --user nobody-of-this-name", config: "data_dir: DIR/data\n", wantExit: exitError, wantOutput: map[bool]string{true: `"nobody-of-this-name" is not a user of this host`, false: "--user is for root"}[os.Geteuid() == 0]},
	}
}

// s3Config returns a configuration with an endpoint and more keys of shipper.s3.
func s3Config(endpoint string, more ...string) string {
	return "data_dir: DIR/data\nshipper: {destination: 's3://abc/p', s3: {\n  endpoint: '" + endpoint + "', region: r, " + strings.Join(more, ", ") + "}}\n"
}

func destinationConfig(url string) string {
	return "data_dir: DIR/data\nshipper: {destination: '" + url + "', s3: {region: r}}\n"
}

func withFile(name, content string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) { write(t, filepath.Join(dir, name), content) }
}

// withReadableFile makes a file that every user can read.
func withReadableFile(name, content string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		withFile(name, content)(t, dir)
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func withPipe(name string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// withHugeFile makes a sparse file that is larger than the limit for files that are read.
func withHugeFile(name string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		withFile(name, "")(t, dir)
		if err := os.Truncate(filepath.Join(dir, name), 1<<30); err != nil {
			t.Fatal(err)
		}
	}
}

func withLink(name, to string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.Symlink(to, path)); err != nil {
			t.Fatal(err)
		}
	}
}

// config check ends although the disk of a file hangs, here because of a lease (fcntl(2)).
func TestCheckEndsAlthoughAFileHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, tokens := filepath.Join(dir, "collectord.yaml"), filepath.Join(dir, "tokens")
	write(t, config, "data_dir: "+dir+"/data\nhttp: {tokens_file: "+tokens+"}\n")
	write(t, tokens, "")
	f, err := os.OpenFile(tokens, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("this file system has no leases: %v", err)
	}
	began := time.Now()
	out, stderr, status := runCollectord(t, "config", "check", "--config", config)
	if took := time.Since(began); status != exitError || !strings.Contains(stderr, "the check did not end within 15s: the disk of the configuration, or of a file that it names, does not answer") || took > 2*checkTimeout {
		t.Errorf("config check exits with %d after %v: %s%s", status, took, out, stderr)
	}
}

// config check and run report the same mistakes of a configuration, and all of them at once.
func TestCheckAndRunFindTheSameMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "collectord.yaml")
	write(t, filepath.Join(dir, "tokens"), ".. sha256:12\na b\n")
	write(t, config, strings.ReplaceAll(`
node: ..
data_dir: DIR/tokens
nod: a
http:
  listen: ['0.0.0.0:1', 'unix:DIR/none/s', 'localhost']
  max_body: 1
  tokens_file: DIR/tokens
  tls: {cert: DIR/cert, key: DIR/key, client_ca: DIR/ca}
udp: {listen: '0.0.0.0:1', allow: [10.0.0.0/33, 'fd00::/129']}
admin: {listen: 'unix:DIR/tokens'}
shipper:
  destination: s3://b
  retry_min: 2m
  s3: {endpoint: 'ftp://h', ca_file: DIR/ca, credentials_file: DIR/keys}
`, "DIR", dir))
	mistakes := func(command1 ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		defer cancel()
		cmd := command(t, append(command1, "--config", config)...)
		out, _ := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...).CombinedOutput()
		first, rest, _ := strings.Cut(string(out), "\n")
		if first != "collectord: the configuration has 19 mistakes:" {
			t.Errorf("%v: %s\n%s", command1, first, rest)
		}
		return rest
	}
	if check, run := mistakes("config", "check"), mistakes("run"); check != run {
		t.Errorf("config check:\n%s\nrun:\n%s", check, run)
	}
}

// config check and run report each file that the daemon's user can't use. config check also
// does so as root.
func TestCheckIsAsTheDaemonsUser(t *testing.T) {
	t.Parallel()
	asRoot, daemon := os.Geteuid() == 0, os.Geteuid()
	if asRoot {
		daemon = 65531
	}
	denied := func(name string, mode string) string {
		return userName(daemon) + " can't use DIR/" + name + " (it belongs to " + userName(os.Geteuid()) + ", mode " + mode + ")"
	}
	closed := func(name string) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), nil, 0) }
	}
	closedDirectory := func(name string) func(dir string) error {
		return func(dir string) error { return os.Mkdir(filepath.Join(dir, name), 0) }
	}
	for name, c := range map[string]struct {
		more  string
		setUp func(dir string) error
		want  string
	}{
		"a tokens file":                 {"http: {tokens_file: DIR/tokens}\n", closed("tokens"), "http.tokens_file (DIR/tokens): can't be read by " + userName(daemon) + ": permission denied"},
		"keys":                          {"shipper: {destination: 's3://abc', s3: {region: r, credentials_file: DIR/keys}}\n", closed("keys"), "shipper.s3.credentials_file (DIR/keys): can't be read by " + userName(daemon) + ": permission denied"},
		"the log":                       {"", closedDirectory("data/wal"), denied("data/wal", "0000") + ": chown it"},
		"the lock":                      {"", closed("data/LOCK"), denied("data/LOCK", "0000") + ": chown it"},
		"a directory for a unix socket": {"http: {listen: 'unix:DIR/private/s'}\n", closedDirectory("private"), "http.listen (DIR/collectord.yaml line 2): unix:DIR/private/s can't be bound: " + denied("private", "0000")},
		"the configuration": {"", func(dir string) error {
			return os.Chmod(filepath.Join(dir, "collectord.yaml"), 0)
		}, "configuration (DIR/collectord.yaml): can't be read: permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			config, data := filepath.Join(dir, "collectord.yaml"), filepath.Join(dir, "data")
			write(t, config, strings.ReplaceAll("data_dir: DIR/data\n"+c.more, "DIR", dir))
			err = errors.Join(
				os.Chmod(filepath.Dir(path), 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod(config, 0o644),
				os.Mkdir(data, 0o750), os.Chown(data, daemon, -1), c.setUp(dir),
			)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(c.want, "DIR", dir)
			out, stderr, status := runCollectord(t, "config", "check", "--config", config)
			if status != exitNotRight || !strings.Contains(stderr, want) || asRoot && !strings.Contains(stderr, "checked as user 65531, the owner of data_dir") {
				t.Errorf("config check exits with %d: %s%s\nwant: %s", status, out, stderr, want)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout) // without a mistake the daemon would run
			defer cancel()
			run := exec.CommandContext(ctx, path, "run", "--config", config)
			if asRoot {
				run.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(daemon), Gid: uint32(daemon)}}
			}
			text, _ := run.CombinedOutput()
			if run.ProcessState.ExitCode() != exitBadConfig || !strings.Contains(string(text), want) {
				t.Errorf("run exits with %d: %s\nwant: %s", run.ProcessState.ExitCode(), text, want)
			}
		})
	}
}
