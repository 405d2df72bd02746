package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "collectord.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, content string, flags ...string) (*Config, error) {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(set)
	if err := set.Parse(flags); err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(Source{Path: file(t, content), Flags: set})
	return c, err
}

func mustLoad(t *testing.T, content string, flags ...string) *Config {
	t.Helper()
	c, err := load(t, content, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// valid values other than the default, three for each key.
var samples = map[string][3]string{
	"node": {"a", "b", "c"}, "data_dir": {"/a", "/b", "/c"},
	"http.listen": {"127.0.0.1:1", "[::1]:2", "unix:/x"}, "http.anonymous": {"true", "false", "true"},
	"http.max_body": {"1MiB", "2MiB", "3MiB"}, "http.max_decoded": {"4MiB", "5MiB", "6MiB"},
	"http.max_records": {"1", "2", "3"}, "http.max_in_flight": {"17MiB", "18MiB", "19MiB"},
	"http.idempotency_window": {"1s", "2s", "3s"}, "http.idempotency_keys": {"1", "2", "3"},
	"http.max_record": {"2kB", "4KiB", "1024"}, "http.max_connections": {"1", "2", "3"},
	"http.header_timeout": {"1s", "2s", "3s"}, "http.idle_timeout": {"1s", "2s", "3s"},
	"udp.listen": {"127.0.0.1:1", "[::1]:2", "off"}, "udp.allow": {"10.0.0.0/8", "fd00::/8", "10.0.0.0/8, 11.0.0.0/8"},
	"udp.sockets": {"1", "2", "3"}, "udp.receive_buffer": {"1MiB", "2MiB", "3MiB"}, "udp.queue": {"1MiB", "2MiB", "3MiB"},
	"admin.listen": {"0.0.0.0:1", "[::1]:2", "off"},
	"wal.sync":     {"interval", "always", "interval"}, "wal.sync_interval": {"1s", "2s", "3s"},
	"wal.segment_size": {"2MiB", "3MiB", "4MiB"}, "wal.seal_after": {"1s", "2s", "3s"},
	"wal.max_bytes": {"1GiB", "2GiB", "3GiB"}, "wal.min_free": {"0", "1", "2B"},
	"wal.when_full": {"reject", "drop_oldest", "reject"}, "wal.commit_timeout": {"1s", "2s", "3s"},
	"shipper.destination": {"file:///a", "s3://abc/x", "file:///b"}, "shipper.level": {"best", "better", "fastest"},
	"shipper.concurrency": {"1", "3", "4"}, "shipper.s3.endpoint": {"http://a:1", "http://b:1", "http://c:1"},
	"shipper.s3.region": {"a", "b", "c"}, "shipper.s3.path_style": {"on", "off", "on"},
	"shipper.s3.credentials_file": {"/a", "/b", "/c"}, "shipper.s3.ca_file": {"/a", "/b", "/c"},
	"shipper.s3.checksum": {"md5", "off", "crc32c"},
	"shutdown.drain":      {"1s", "2s", "3s"}, "shutdown.grace": {"1s", "2s", "3s"},
	"log.level": {"debug", "warn", "error"}, "log.format": {"text", "json", "text"},
}

// yamlFor writes one key as a file.
func yamlFor(key, value string) string {
	var b strings.Builder
	parts := strings.Split(key, ".")
	for i, part := range parts {
		b.WriteString(strings.Repeat("  ", i) + part + ":")
		if i == len(parts)-1 {
			b.WriteString(" " + quote(value))
		}
		b.WriteString("\n")
	}
	// An s3 destination needs to know where.
	if key == "shipper.destination" {
		b.WriteString("  s3: {endpoint: \"http://x:1\"}\n")
	}
	return b.String()
}

func TestFlagOverEnvironmentOverFileOverDefaultForEveryKey(t *testing.T) {
	for _, k := range Keys() {
		sample, ok := samples[k.Name]
		if !ok {
			t.Errorf("no samples for %s", k.Name)
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			value := func(c *Config) string { return c.raw[k.Name] }
			if got := value(mustLoad(t, "")); got != k.Default {
				t.Errorf("default is %q, want %q", got, k.Default)
			}
			text := yamlFor(k.Name, sample[0])
			if got := value(mustLoad(t, text)); got != sample[0] {
				t.Errorf("file gives %q, want %q", got, sample[0])
			}
			if k.Name == "shipper.destination" {
				t.Setenv("COLLECTORD_SHIPPER_S3_ENDPOINT", "http://x:1")
			}
			t.Setenv(k.Env(), sample[1])
			if got := value(mustLoad(t, text)); got != sample[1] {
				t.Errorf("environment gives %q, want %q", got, sample[1])
			}
			if k.Flag != "" {
				if got := value(mustLoad(t, text, "--"+k.Flag, sample[2])); got != sample[2] {
					t.Errorf("flag gives %q, want %q", got, sample[2])
				}
			}
		})
	}
}

func TestEveryKeyHasItsOwnVariable(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Keys() {
		if other, taken := seen[k.Env()]; taken {
			t.Errorf("%s and %s share %s", k.Name, other, k.Env())
		}
		seen[k.Env()] = k.Name
	}
}

func TestAllMistakesAreToldAtOnceWithLineAndNearestKey(t *testing.T) {
	t.Setenv("COLLECTORD_UDP_SOCKETS", "many")
	_, err := load(t, `
http:
  listn: localhost:3000
  max_record: 1 megabyte
wal:
  seal_after: 60
  Sync: always
shipper:
  concurrency: 1e3
udp: 7
node: ~
`, "--log-level", "loud")
	var m Mistakes
	if !errors.As(err, &m) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"http.listn (", "line 3): is not a key; the nearest is http.listen",
		`http.max_record (`, `line 4): "1 megabyte" is not a size`,
		"wal.seal_after (", "line 6): \"60\" is not a duration",
		"wal.Sync (", "line 7): is not a key; the nearest is wal.sync",
		"line 9): \"1e3\" is not a whole number",
		"udp (", "line 10): is a section",
		"node (", "line 11): has no value",
		`udp.sockets (COLLECTORD_UDP_SOCKETS): "many" is not a whole number`,
		`log.level (--log-level): "loud" is not one of`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not told: %s", want)
		}
	}
	if len(m) != 9 {
		t.Errorf("%d mistakes, want 9:\n%v", len(m), err)
	}
}

func TestListenersBeyondLoopbackMustBeMeant(t *testing.T) {
	for text, wrong := range map[string]string{
		"http: {listen: '0.0.0.0:3000'}":                                  "http.listen",
		"http: {listen: [localhost:3000, '[::]:3000']}":                   "http.listen",
		"http: {listen: '0.0.0.0:3000', anonymous: true}":                 "",
		"http: {listen: 'unix:/run/x.sock'}":                              "",
		"udp: {listen: '10.0.0.1:3000'}":                                  "udp.listen",
		"udp: {listen: '10.0.0.1:3000', allow: [10.0.0.0/8]}":             "",
		"udp: {listen: 'unix:/x'}":                                        "udp.listen",
		"admin: {listen: '0.0.0.0:3001'}":                                 "",
		"http: {listen: example.com:3000}":                                "http.listen",
		"http: {listen: localhost}":                                       "http.listen",
		"shipper: {destination: s3://bucket}":                             "shipper.s3.endpoint",
		"shipper: {destination: s3://bucket, s3: {region: eu-central-1}}": "",
		"shipper: {destination: 's3://B'}":                                "shipper.destination",
		"wal: {max_bytes: 8MiB}":                                          "wal.max_bytes",
		"node: 'a/b'":                                                     "node",
		"a: 1\n---\nb: 2":                                                 "configuration",
		"node: a\nnode: b":                                                "node",
		"http: {max_record: 99999999999999999999GiB}":                     "http.max_record",
	} {
		_, err := load(t, text)
		if (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, want a mistake in %q", text, err, wrong)
		}
	}
}

func TestLocalhostIsBothLoopbacks(t *testing.T) {
	c := mustLoad(t, "")
	var got []string
	for _, a := range c.HTTP.Listen {
		got = append(got, a.String())
	}
	if !reflect.DeepEqual(got, []string{"127.0.0.1:3000", "[::1]:3000"}) {
		t.Errorf("listens on %v", got)
	}
	if !filepath.IsAbs(c.DataDir) || c.Shipper.Destination != "file://"+c.DataDir+"/archive" || c.Node == "" {
		t.Errorf("%+v", c)
	}
}

func TestExampleFileIsUpToDateAndChangesNothing(t *testing.T) {
	const path = "../packaging/collectord.yaml"
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(path, Example(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, Example()) {
		t.Errorf("packaging/collectord.yaml is not what config example prints (UPDATE=1 mends it): %v", err)
	}
	plain := mustLoad(t, "")
	if got := mustLoad(t, string(b)); !reflect.DeepEqual(got, plain) {
		t.Error("the example, all commented out, changes a default")
	}
	var bare strings.Builder // every key uncommented must be valid, too
	for line := range strings.Lines(string(b)) {
		if key, _, ok := strings.Cut(strings.TrimLeft(line, " "), ": "); ok && strings.HasPrefix(key, "# ") && !strings.Contains(key[2:], " ") && key != "# Empty" {
			line = strings.Replace(line, "# ", "", 1)
		}
		bare.WriteString(line)
	}
	if got := mustLoad(t, bare.String()); !reflect.DeepEqual(got, plain) {
		t.Errorf("the example, uncommented, differs from the defaults:\n%s", bare.String())
	}
}

func TestPrintedConfigurationLoadsAsTheSame(t *testing.T) {
	c := mustLoad(t, "http: {listen: ['[::1]:1', 'unix:/x']}\nudp: {allow: 10.0.0.0/8, listen: off}", "--seal-after", "3s")
	again := mustLoad(t, string(c.Print()))
	if !reflect.DeepEqual(c, again) {
		t.Errorf("printed:\n%s", c.Print())
	}
}

func TestUnknownVariableIsAWarning(t *testing.T) {
	t.Setenv("COLLECTORD_PORT_3000_TCP", "tcp://10.0.0.1:3000")
	t.Setenv("COLLECTORD_HTTP", "wiped")
	c, warnings, err := Load(Source{Path: file(t, "http: {max_connections: 7}")})
	if err != nil || len(warnings) != 2 || c.HTTP.MaxConnections != 7 {
		t.Errorf("%v, %v", warnings, err)
	}
}

func TestNamedFileMustExist(t *testing.T) {
	if _, _, err := Load(Source{Path: "/nonexistent/collectord.yaml"}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add(string(Example()))
	f.Add("http: {listen: [a, b]}\n")
	f.Add("a: &x [*x]\n")
	f.Add("http: *x\n? {a: b}\n: c\n")
	f.Fuzz(func(t *testing.T, content string) {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := Load(Source{Path: path})
		if (c == nil) == (err == nil) {
			t.Errorf("%v, %v", c, err)
		}
	})
}
