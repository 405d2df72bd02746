package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func writeConfig(t *testing.T, content string) string {
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
	c, _, err := Load(Source{Path: writeConfig(t, content), Flags: set})
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

func TestAllMistakesAreReportedAtOnceWithLineAndNearestKey(t *testing.T) {
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
			t.Errorf("not reported: %s", want)
		}
	}
	if len(m) != 9 {
		t.Errorf("%d mistakes, want 9:\n%v", len(m), err)
	}
}

func TestSettingsThatAreHardlyIntendedAreMistakes(t *testing.T) {
	for text, wrong := range map[string]string{
		"http: {listen: '0.0.0.0:3000'}":                                  "http.listen",
		"http: {listen: [localhost:3000, '[::]:3000']}":                   "http.listen",
		"http: {listen: '0.0.0.0:3000', anonymous: true}":                 "",
		"http: {listen: 'unix:/run/x.sock'}":                              "",
		"http: {listen: '0.0.0.0:3000', tokens_file: /t}":                 "",
		"http: {listen: '0.0.0.0:1', tls: {cert: /c, key: /k}}":           "require authentication with http.tokens_file or http.tls.client_ca",
		"http: {listen: '[::]:1', tls: {cert: c, key: k, client_ca: a}}":  "",
		"http: {tls: {cert: /c}}":                                         "http.tls.cert (",
		"http: {tls: {key: /k}}":                                          "http.tls.key (",
		"http: {tls: {client_ca: /k}}":                                    "http.tls.client_ca (",
		"http: {socket_mode: 0o660}":                                      "http.socket_mode",
		"http: {socket_mode: 0680}":                                       "http.socket_mode",
		"http: {socket_mode: 1777}":                                       "http.socket_mode",
		"http: {socket_group: no-such-group}":                             "http.socket_group",
		"http: {problem_base: 'https://docs.example/problems'}":           "",
		"http: {problem_base: 'ftp://docs.example/'}":                     "http.problem_base",
		"http: {problem_base: 'a#b'}":                                     "http.problem_base",
		"http: {problem_base: 'a b'}":                                     "http.problem_base",
		"http: {problem_base: ''}":                                        "http.problem_base",
		"http: {problem_base: 'https://user:word@docs.example/'}":         "http.problem_base",
		"udp: {listen: '10.0.0.1:3000'}":                                  "udp.listen",
		"udp: {listen: '10.0.0.1:3000', allow: [10.0.0.0/8]}":             "",
		"udp: {listen: 'unix:/x'}":                                        "udp.listen",
		"admin: {listen: '0.0.0.0:3001'}":                                 "",
		"http: {listen: example.com:3000}":                                "http.listen",
		"http: {listen: localhost}":                                       "http.listen",
		"shipper: {destination: s3://bucket}":                             "shipper.s3.endpoint",
		"shipper: {destination: s3://bucket, s3: {region: eu-central-1}}": "",
		"shipper: {destination: 's3://B'}":                                "shipper.destination",
		"node: 'a/b'":                                                     "node",
		"a: 1\n---\nb: 2":                                                 "configuration",
		"node: a\nnode: b":                                                "node",
		"http: {max_record: 99999999999999999999GiB}":                     "http.max_record",
		"http: {body_rate: 1KiB}":                                         "http.body_rate",
		"wal: {probe_min: 1m}":                                            "wal.probe_min",
		"shipper: {retry_min: 2m}":                                        "shipper.retry_min",
		"http.listen: off":                                                "http.listen",
		"data_dir: [a, b]":                                                "data_dir",
		"udp: {allow: ','}":                                               "udp.allow",
		"http: {listen: 'localhost:1,,localhost:2'}":                      "http.listen",
		"http: {listen: '[]:1', anonymous: true}":                         "http.listen",
		"http: {listen: '*:1'}":                                           "*:1 can be reached from other hosts",
		"udp: {listen: ':1'}":                                             ":1 can be reached from other hosts",
		"http: {listen: '0.0.0.0:1,[::]:1', anonymous: true}":             "",
		"http: {listen: 'localhost:1,[::1]:1'}":                           "http.listen (",
		"http: {listen: '127.0.0.1:1,0.0.0.0:1', anonymous: true}":        "0.0.0.0:1 and 127.0.0.1:1 in http.listen can't both be bound",
		"http: {listen: '[::ffff:127.0.0.1]:1,127.0.0.1:1'}":              "http.listen (",
		"http: {listen: '127.0.0.1:1,[::]:1', anonymous: true}":           "",
		"http: {listen: '127.0.0.1:0,127.0.0.1:0,localhost:0'}":           "",
		"http: {listen: 'unix:/x,unix:/x'}":                               "http.listen (",
		"udp: {listen: 'localhost:1,localhost:1'}":                        "udp.listen (",
		"admin: {listen: '*:3000'}":                                       "admin.listen (",
		"node: !!binary aGVsbG8=":                                         "node",
		"http: &h {anonymous: true}\n*h : {}":                             "a plain word",
	} {
		_, err := load(t, text)
		if (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, want a mistake in %q", text, err, wrong)
		}
	}
}

// A wrong part of a list does not prevent the check of its other parts and of other
// keys.
func TestAMistakeHidesNoOther(t *testing.T) {
	_, err := load(t, "http: {listen: ['h:1', '0.0.0.0:1', '[::]:x'], max_body: 1}\nudp: {listen: '0.0.0.0:2', allow: ''}\nshipper: {retry_min: 2m}\nwal: {probe_min: soon}\n")
	for _, want := range []string{
		`contains "h:1", which is not an address`, `contains "[::]:x", which is not an address`, "0.0.0.0:1 can be reached from other hosts",
		`http.max_body (`, "0.0.0.0:2 can be reached from other hosts", "is more than shipper.retry_max", "wal.probe_min (",
	} {
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("not reported exactly once: %s:\n%v", want, err)
		}
	}
	if m := Mistakes(nil); !errors.As(err, &m) || len(m) != 7 {
		t.Errorf("%d mistakes, want 7:\n%v", len(m), err)
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, plaintext := range map[string]bool{
		"": false, "https://h": false, "h": false, "h:9000": false, "10.0.0.1:9000": false, "[::1]:9000": false, "https://h:1/": false, "HTTPS://H": false,
		"http://h": true, "http://h:9000/": true, "http://10.0.0.1:9000": true, "http://[fd00::1]:9000": true, "http://s3_a.example": true,
		"http://localhost:9000": false, "http://a.localhost": false, "http://127.0.0.2": false, "http://[::1]": false, "HTTP://Localhost.:9000": false,
	} {
		if err := checkEndpoint(endpoint); err != nil || isPlaintext(endpoint) != plaintext {
			t.Errorf("%q: %v, plaintext beyond this host: %v", endpoint, err, isPlaintext(endpoint))
		}
	}
	for _, endpoint := range []string{
		"http://", "ftp://h", "s3://h", "//h", "http:/h", "http:h", "http://h:0", "http://h:65536", "http://h:", "h:http", "http://h:-1", "http://h/p", "https://h//", "h/p",
		"http://h?a", "http://h#a", " http://h", "http://h ", "http://a b", "http://[::1", "http://::1:9000", "http://me@h", "me:pw@h", "http://h\n", "http://ü",
	} {
		if err := checkEndpoint(endpoint); err == nil {
			t.Errorf("%q is an endpoint", endpoint)
		}
	}
}

// A network of IPv4-mapped addresses becomes an IPv4 network, because the addresses of
// senders are IPv4.
func TestNetworksThatMatchNoSenderAreWarnings(t *testing.T) {
	for text, want := range map[string]struct{ allow, warning string }{
		"listen: '127.0.0.1:1', allow: '::ffff:127.0.0.1/128'":      {"[127.0.0.1/32]", ""},
		"listen: '127.0.0.1:1', allow: '::ffff:10.1.2.3/104'":       {"[10.0.0.0/8]", ""},
		"listen: '127.0.0.1:1', allow: '::ffff:0:0/96'":             {"[0.0.0.0/0]", ""},
		"listen: '127.0.0.1:1', allow: '::/0'":                      {"[::/0]", "udp.allow ::/0 matches no sender: udp.listen has no IPv6 address"},
		"listen: '127.0.0.1:1', allow: '0.0.0.0/0,::/0'":            {"[0.0.0.0/0 ::/0]", ""},
		"listen: '[::1]:1', allow: '127.0.0.0/8'":                   {"[127.0.0.0/8]", "udp.allow 127.0.0.0/8 matches no sender: udp.listen has no IPv4 address"},
		"listen: 'localhost:1', allow: '127.0.0.0/8,::1/128'":       {"[127.0.0.0/8 ::1/128]", ""},
		"listen: off, allow: '10.0.0.0/8'":                          {"[10.0.0.0/8]", ""},
		"listen: 'localhost:1', allow: '224.0.0.0/4'":               {"[224.0.0.0/4]", "no datagram comes from such an address"},
		"listen: 'localhost:1', allow: '0.0.0.0/32'":                {"[0.0.0.0/32]", "no datagram comes from such an address"},
		"listen: 'localhost:1', allow: '0.0.0.0/0,::/0,10.1.2.3/8'": {"[0.0.0.0/0 ::/0 10.0.0.0/8]", ""},
	} {
		c, warnings, err := Load(Source{Path: writeConfig(t, "udp: {"+text+"}")})
		if err != nil || fmt.Sprint(c.UDP.Allow) != want.allow || (want.warning == "") != (len(warnings) == 0) || !strings.Contains(strings.Join(warnings, "\n"), want.warning) {
			t.Errorf("%s: %v, %q", text, err, warnings)
		}
	}
}

// A command that uses only some keys warns of wrong values of the others. An error that
// may concern its own keys stops it.
func TestUnusedKeysMayBeWrong(t *testing.T) {
	for text, wrong := range map[string]bool{
		"http: {max_body: x}": false, "http: 7": false, "http: {max_body: ~}": false, "http: {max_body: &a 1MiB}": false, "http: {listen: '0.0.0.0:1'}": false,
		"node: a\nnode: b": false, "htp: {}": true, "http: {max_bodi: 1MiB}": true, "a: {": true, "wal: 7": true, "wal: {probe_min: 1h}": true, "data_dir: ~": true,
		"shipper: {level: x}": false, "shipper: 7": true, "shipper: {s3: {region: '!'}}": true, "shipper: {s3: 7}": true, "a: 1\n---\nb: 2": true,
	} {
		c, warnings, err := Load(Source{Path: writeConfig(t, text), Uses: []string{"data_dir", "wal", "shipper.s3"}})
		if (err != nil) != wrong || !wrong && (len(warnings) != 1 || c.HTTP.MaxBody != 4<<20 || c.Shipper.Level != "default") {
			t.Errorf("%s: %v, %q", text, err, warnings)
		}
	}
}

// A user who sets only variables, as in a container, gets errors that name variables.
func TestMistakesOfVariablesNameVariables(t *testing.T) {
	t.Setenv("COLLECTORD_HTTP_LISTEN", "0.0.0.0:3000")
	t.Setenv("COLLECTORD_UDP_LISTEN", "0.0.0.0:3000")
	t.Setenv("COLLECTORD_HTTP_MAX_RECORD", "16MiB")
	t.Setenv("COLLECTORD_HTTP_MAX_DECODED", "8MiB")
	_, err := load(t, "wal: {probe_min: 1m}")
	for _, want := range []string{
		"http.listen (COLLECTORD_HTTP_LISTEN): 0.0.0.0:3000 can be reached",
		"COLLECTORD_HTTP_TOKENS_FILE or COLLECTORD_HTTP_TLS_CLIENT_CA,", "set COLLECTORD_HTTP_ANONYMOUS=true if",
		"udp.listen (COLLECTORD_UDP_LISTEN): ", "in COLLECTORD_UDP_ALLOW (0.0.0.0/0 for all), or set COLLECTORD_UDP_LISTEN=off",
		"http.max_record (COLLECTORD_HTTP_MAX_RECORD): is more than COLLECTORD_HTTP_MAX_DECODED",
		"line 1): is more than wal.probe_max (30s)",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s:\n%v", want, err)
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

// An address that is written out has one family. A name that stands for both families
// may lack one on a host.
func TestAddressesAreOfOneFamily(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:1":            "127.0.0.1:1/localhost:1 [::1]:1/localhost:1",
		":1":                     "0.0.0.0:1/:1 [::]:1/:1",
		"*:1":                    "0.0.0.0:1/*:1 [::]:1/*:1",
		"0.0.0.0:1":              "0.0.0.0:1/",
		"[::]:1":                 "[::]:1/",
		"[::ffff:127.0.0.1]:1":   "127.0.0.1:1/",
		"127.0.0.1:1,[::1]:1":    "127.0.0.1:1/ [::1]:1/",
		"[fe80::1%2]:1,unix:/*:": "[fe80::1%2]:1/ unix:/*:/",
	} {
		c := mustLoad(t, "http: {anonymous: true, listen: '"+text+"'}\nudp: {listen: off}")
		again := mustLoad(t, string(c.Print()))
		for _, c := range []*Config{c, again} {
			var got []string
			for _, a := range c.HTTP.Listen {
				got = append(got, a.String()+"/"+a.Name)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s is %q, want %q", text, got, want)
			}
		}
	}
}

func TestAnIPv6WildcardAloneIsAWarning(t *testing.T) {
	for text, want := range map[string]string{
		"http: {anonymous: true, listen: '[::]:1'}":                "http.listen [::]:1 is IPv6 only",
		"http: {anonymous: true, listen: '[::]:1,[::]:2'}":         "http.listen [::]:1, [::]:2 is IPv6 only",
		"http: {anonymous: true, listen: '[::]:1,0.0.0.0:2'}":      "http.listen [::]:1 is IPv6 only",
		"http: {anonymous: true, listen: '[::]:1,0.0.0.0:1'}":      "",
		"http: {anonymous: true, listen: ':1'}":                    "",
		"http: {anonymous: true, listen: '0.0.0.0:1,[fd00::1]:1'}": "",
		"udp: {allow: '::/0', listen: '[::]:1'}":                   "udp.listen [::]:1 is IPv6 only",
		"admin: {listen: '[::]:1'}":                                "admin.listen [::]:1 is IPv6 only",
	} {
		_, warnings, err := Load(Source{Path: writeConfig(t, text)})
		if err != nil || (len(warnings) > 0) != (want != "") || len(warnings) > 1 || !strings.HasPrefix(strings.Join(warnings, ""), want) {
			t.Errorf("%s: %q, %v", text, warnings, err)
		}
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
	t.Setenv("COLLECTORD_HTTP_MAX_CONECTIONS", "8")
	t.Setenv(TokenVariable, "cd_x")
	c, warnings, err := Load(Source{Path: writeConfig(t, "http: {max_connections: 7}")})
	if err != nil || len(warnings) != 3 || c.HTTP.MaxConnections != 7 || !strings.Contains(strings.Join(warnings, "\n"), "the nearest is COLLECTORD_HTTP_MAX_CONNECTIONS") {
		t.Errorf("%v, %v", warnings, err)
	}
}

func TestNamedFileMustExist(t *testing.T) {
	_, _, err := Load(Source{Path: "/nonexistent/collectord.yaml"})
	if m := Mistakes(nil); !errors.As(err, &m) || err.Error() != "configuration (/nonexistent/collectord.yaml): can't be read: no such file or directory" {
		t.Error(err)
	}
}

func TestTokensInPlaintextBeyondThisHostAreAWarning(t *testing.T) {
	for text, want := range map[string]int{
		"http: {tokens_file: /t}": 0,
		"http: {tokens_file: /t, listen: ['0.0.0.0:1', 'localhost:2', '[fd00::1]:3']}": 2,
		"http: {tokens_file: /t, listen: '0.0.0.0:1,:2'}":                              2,
		"http: {tokens_file: /t, listen: '0.0.0.0:1', tls: {cert: /c, key: /k}}":       0,
		"http: {anonymous: true, listen: '0.0.0.0:1'}":                                 0,
		"http: {listen: '0.0.0.0:1', tls: {cert: /c, key: /k, client_ca: /a}}":         0,
		"http: {listen: 'unix:/run/x.sock', tokens_file: /t}":                          0,
	} {
		_, warnings, err := Load(Source{Path: writeConfig(t, text)})
		if err != nil || len(warnings) != want || want > 0 && !strings.Contains(warnings[0], "http.listen 0.0.0.0:1 accepts tokens that can be read") {
			t.Errorf("%s: %q, %v", text, warnings, err)
		}
	}
}

// A name without a slash is a credential if systemd passed credentials. A path is
// always a path.
func TestANameIsACredentialIfSystemdPassedCredentials(t *testing.T) {
	const text = "http: {tokens_file: tokens, tls: {cert: ./cert.pem, key: /etc/key.pem}}\nshipper: {s3: {credentials_file: s3}}"
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if c := mustLoad(t, text); c.HTTP.TokensFile != "tokens" || c.Shipper.S3.CAFile != "" {
		t.Errorf("without credentials: %+v", c.HTTP)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/collectord.service")
	c := mustLoad(t, text)
	if c.HTTP.TokensFile != "/run/credentials/collectord.service/tokens" || c.HTTP.TLS != (TLS{"./cert.pem", "/etc/key.pem", ""}) ||
		c.Shipper.S3.CredentialsFile != "/run/credentials/collectord.service/s3" || c.Shipper.S3.CAFile != "" {
		t.Errorf("%+v %+v", c.HTTP, c.Shipper.S3)
	}
	if again := mustLoad(t, string(c.Print())); !reflect.DeepEqual(c, again) {
		t.Errorf("printed:\n%s", c.Print())
	}
}

// seal_after alone sets the age of all segments, as it did before there were two ages.
func TestSealAfterAloneSetsTheAgeOfSmallSegmentsToo(t *testing.T) {
	for settings, want := range map[string][2]time.Duration{
		"":                             {time.Minute, 5 * time.Minute},
		"wal: {seal_after: 3s}":        {3 * time.Second, 3 * time.Second},
		"wal: {seal_after: 1h}":        {time.Hour, time.Hour},
		"wal: {seal_small_after: 10m}": {time.Minute, 10 * time.Minute},
		"wal: {seal_after: 3s, seal_small_after: 1m}":    {3 * time.Second, time.Minute},
		"wal: {seal_after: 10m, seal_small_after: 1m}":   {10 * time.Minute, time.Minute},
		"wal: {seal_after: 60s, seal_small_after: '5m'}": {time.Minute, 5 * time.Minute},
	} {
		c := mustLoad(t, settings)
		if got := [2]time.Duration{c.WAL.SealAfter, c.WAL.SealSmallAfter}; got != want {
			t.Errorf("%q: sealed after %v, want %v", settings, got, want)
		}
	}
	running := mustLoad(t, "")
	got, changes, err := running.Reloaded(mustLoad(t, "wal: {seal_after: 3s}"))
	if err != nil || got.WAL.SealSmallAfter != 3*time.Second || len(changes) != 1 {
		t.Errorf("reloaded: %+v, %v, %v", got.WAL, changes, err)
	}
}

// Every segment size is valid: package wal lowers the size to fit the log.
func TestNoSegmentSizeIsTooLargeForTheLog(t *testing.T) {
	for _, settings := range []string{"wal: {max_bytes: 4MiB}", "wal: {max_bytes: 5MiB, segment_size: 256MiB}", "wal: {segment_size: 1MiB}"} {
		mustLoad(t, settings)
	}
}

func TestANodeNamedAfterItsHostIsAFileThatReadersRead(t *testing.T) {
	for host, want := range map[string]string{
		"edge-1.example": "edge-1.example", "Klinik Süd": "Klinik-S-d", "_hidden": "hidden", "-.-_x-": "x", "...": "localhost", "": "localhost",
		strings.Repeat("x", 80): strings.Repeat("x", 63),
	} {
		if got := nodeOf(host); got != want {
			t.Errorf("a host named %q: node %q, want %q", host, got, want)
		}
	}
}
