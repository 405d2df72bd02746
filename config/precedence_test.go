package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// samples are valid values of each key, for the file, the environment and the flag.
// Each differs from the previous one, and the first differs from the default.
var samples = map[string][3]string{
	"node": {"a", "b", "c"}, "data_dir": {"/a", "/b", "/c"},
	"http.listen": {"127.0.0.1:1", "[::1]:2", "unix:/x"}, "http.anonymous": {"true", "false", "true"},
	"http.tokens_file": {"/a", "b", "./c"}, "http.tls.cert": {"/a", "/b", "/c"}, "http.tls.key": {"/a", "/b", "/c"},
	"http.problem_base": {"/a", "b.md", "https://c.example/d"}, "http.tls.client_ca": {"/a", "/b", "/c"}, "http.socket_mode": {"0600", "666", "0777"}, "http.socket_group": {"1", "2", "0"},
	"http.max_record": {"2kB", "4KiB", "1024"}, "http.max_header": {"2KiB", "4KiB", "16KiB"},
	"http.max_body": {"1MiB", "2MiB", "3MiB"}, "http.max_decoded": {"4MiB", "5MiB", "6MiB"},
	"http.max_records": {"1", "2", "3"}, "http.max_in_flight": {"17MiB", "18MiB", "19MiB"},
	"http.idempotency_window": {"1s", "2s", "3s"}, "http.idempotency_keys": {"1", "2", "3"},
	"http.max_connections": {"1", "2", "3"}, "http.max_tls_connections": {"1", "2", "3"},
	"http.header_timeout": {"1s", "2s", "3s"}, "http.idle_timeout": {"1s", "2s", "3s"},
	"http.rate": {"1", "2", "3"}, "http.burst": {"1", "2", "3"},
	"http.body_rate": {"1B/s", "2 KiB/s", "1MB/s"}, "http.body_grace": {"1s", "2s", "3s"}, "http.answer_timeout": {"1s", "2s", "3s"},
	"udp.listen": {"127.0.0.1:1", "[::1]:2", "off"}, "http.origins": {"null", "https://a.example", "http://[::1]:8080, file://"}, "http.hosts": {"a.example", "10.0.0.1", "b.example, 2001:db8::1"},
	"udp.allow":        {"10.0.0.0/8", "fd00::/8", "10.0.0.0/8, 11.0.0.0/8"},
	"udp.max_datagram": {"1500B", "2KiB", "9000"},
	"udp.sockets":      {"1", "2", "3"}, "udp.receive_buffer": {"1MiB", "2MiB", "3MiB"}, "udp.queue": {"1MiB", "2MiB", "3MiB"},
	"admin.listen": {"0.0.0.0:1", "[::1]:2", "off"},
	"wal.sync":     {"interval", "always", "interval"}, "wal.sync_interval": {"1s", "2s", "3s"},
	"wal.segment_size": {"2MiB", "3MiB", "4MiB"}, "wal.seal_after": {"1s", "2s", "3s"}, "wal.seal_small_after": {"2m", "3m", "4m"},
	"wal.max_bytes": {"1GiB", "2GiB", "3GiB"}, "wal.min_free": {"0", "1", "2B"},
	"wal.when_full": {"drop_oldest", "reject", "drop_oldest"}, "wal.commit_timeout": {"1s", "2s", "3s"},
	"wal.probe_min": {"2s", "3s", "4s"}, "wal.probe_max": {"1m", "2m", "3m"},
	"shipper.destination": {"file:///a", "s3://abc/x", "file:///b"}, "shipper.level": {"best", "better", "fastest"},
	"shipper.concurrency": {"1", "3", "4"}, "shipper.s3.endpoint": {"http://a:1", "http://b:1", "http://c:1"},
	"shipper.retry_min": {"2s", "3s", "4s"}, "shipper.retry_max": {"2m", "3m", "4m"}, "shipper.retry_max_permanent": {"6m", "7m", "8m"},
	"shipper.s3.region": {"a", "b", "c"}, "shipper.s3.path_style": {"on", "off", "on"},
	"shipper.s3.credentials_file": {"/a", "/b", "/c"}, "shipper.s3.ca_file": {"/a", "/b", "/c"},
	"shipper.bandwidth": {"1KiB/s", "2MiB/s", "3kB/s"}, "shipper.stall_timeout": {"1s", "2s", "3s"}, "shipper.heartbeat": {"1s", "2s", "3s"},
	"shipper.s3.checksum": {"md5", "off", "crc32c"}, "shipper.s3.sse": {"s3", "kms", "kms:a"}, "shipper.s3.sse_unconfirmed": {"accept", "reject", "accept"}, "shipper.s3.storage_class": {"A", "B", "C"},
	"shipper.keep":     {"1s", "2m", "0s"},
	"shipper.s3.proof": {"off", "auto", "off"},
	"shutdown.drain":   {"1s", "2s", "3s"}, "shutdown.requests": {"1s", "2s", "3s"}, "shutdown.datagrams": {"1s", "3s", "4s"},
	"shutdown.seal": {"1s", "2s", "3s"}, "shutdown.grace": {"1s", "2s", "3s"},
	"log.level": {"debug", "warn", "error"}, "log.format": {"text", "json", "text"},
}

// yamlFor returns a file that sets one key.
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
	return b.String()
}

func TestFlagOverEnvironmentOverFileOverDefaultForEveryKey(t *testing.T) {
	t.Setenv("COLLECTORD_SHIPPER_S3_ENDPOINT", "http://x:1") // an s3 destination needs an endpoint
	for _, k := range Keys() {
		sample, ok := samples[k.Name]
		if !ok {
			t.Errorf("no samples for %s", k.Name)
			continue
		}
		if sample[0] == k.Default || sample[1] == sample[0] || sample[2] == sample[1] {
			t.Errorf("the samples for %s do not differ from the default or from each other", k.Name)
		}
		t.Run(k.Name, func(t *testing.T) {
			if k.Name == "shipper.s3.endpoint" {
				t.Setenv(k.Env(), "")
			}
			last := mustLoad(t, "")
			if k.Name != "shipper.s3.endpoint" && last.raw[k.Name] != k.Default {
				t.Errorf("default is %q, want %q", last.raw[k.Name], k.Default)
			}
			for _, companion := range []string{"http.tls.cert", "http.tls.key"} {
				if strings.HasPrefix(k.Name, "http.tls.") && k.Name != companion { // either of them alone is a mistake
					other, _ := findKey(companion)
					t.Setenv(other.Env(), "/x")
				}
			}
			expect := func(source, want string, c *Config) {
				t.Helper()
				if got := c.raw[k.Name]; got != want {
					t.Errorf("%s gives %q, want %q", source, got, want)
				}
				if field := strings.ReplaceAll(k.Name, "_", ""); !slices.Contains(differences(last, c), field) {
					t.Errorf("%s changes %q, not the field %s", source, differences(last, c), field)
				}
				last = c
			}
			text := yamlFor(k.Name, sample[0])
			if k.Name != "shipper.s3.endpoint" {
				expect("file", sample[0], mustLoad(t, text))
			}
			t.Setenv(k.Env(), sample[1])
			expect("environment", sample[1], mustLoad(t, text))
			if k.Flag != "" {
				expect("flag", sample[2], mustLoad(t, text, "--"+k.Flag, sample[2]))
			}
		})
	}
	if len(samples) != len(Keys()) {
		t.Errorf("samples for %d keys, there are %d", len(samples), len(Keys()))
	}
}

// differences returns the fields in which two configurations differ, as keys without
// underscores.
func differences(a, b *Config) (fields []string) {
	var walk func(name string, a, b reflect.Value)
	walk = func(name string, a, b reflect.Value) {
		if a.Kind() != reflect.Struct {
			if fmt.Sprint(a) != fmt.Sprint(b) {
				fields = append(fields, strings.TrimPrefix(name, "."))
			}
			return
		}
		for i := range a.NumField() {
			if f := a.Type().Field(i); f.IsExported() {
				walk(name+"."+strings.ToLower(f.Name), a.Field(i), b.Field(i))
			}
		}
	}
	walk("", reflect.ValueOf(*a), reflect.ValueOf(*b))
	return fields
}

func TestEveryKeyHasItsOwnVariableAndFlag(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Keys() {
		for _, name := range []string{k.Env(), k.Flag} {
			if other, taken := seen[name]; taken {
				t.Errorf("%s and %s share %s", k.Name, other, name)
			}
			if name != "" {
				seen[name] = k.Name
			}
		}
	}
}

// No key has the name of a section. Otherwise a lookup that builds the names of
// variables would lose the section.
func TestNoKeyIsASection(t *testing.T) {
	for _, a := range Keys() {
		for _, b := range Keys() {
			if strings.HasPrefix(b.Name, a.Name+".") {
				t.Errorf("%s is a key and the section of %s", a.Name, b.Name)
			}
		}
	}
}

func TestReloadAppliesLiveKeysAndReturnsTheOthers(t *testing.T) {
	running := mustLoad(t, "node: a\nwal: {segment_size: 4MiB, max_bytes: 16MiB}\n")
	next := mustLoad(t, "node: b\nwal: {segment_size: 4MiB, max_bytes: 32MiB}\n")
	got, changes, err := running.Reloaded(next)
	if err != nil || got.Node != "a" || got.WAL.MaxBytes != 32<<20 {
		t.Errorf("%+v, %v", got, err)
	}
	want := []Change{{"node", "a", "b", false}, {"wal.max_bytes", "16MiB", "32MiB", true}}
	if !reflect.DeepEqual(changes, want) {
		t.Errorf("changes %v, want %v", changes, want)
	}
}
