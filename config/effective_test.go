package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Print returns the settings as they were written, as a configuration file.
func (c *Config) Print() []byte {
	var b strings.Builder
	write(&b, bare, func(k Key) (text, comment string, set bool) { return c.raw[k.Name], "", true })
	return []byte(b.String())
}

func TestWhatIsInEffectIsShownWithItsOrigin(t *testing.T) {
	t.Setenv("COLLECTORD_HTTP_RATE", "7")
	t.Setenv("COLLECTORD_WAL_SEAL_AFTER", "9s")
	t.Setenv("CREDENTIALS_DIRECTORY", "/credentials")
	path := writeConfig(t, "http:\n  rate: 5\n  burst: 8\n  tokens_file: tokens\nwal: {seal_after: 8s}\nshipper: {level: best}\n")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse([]string{"--seal-after", "3s", "--data-dir", "x y"}); err != nil {
		t.Fatal(err)
	}
	src := Source{Path: path, Flags: flags}
	e, err := LoadEffective(src)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("x y")
	if err != nil {
		t.Fatal(err)
	}
	text, err := e.JSON()
	var got map[string]struct{ Value, From string }
	if err != nil || json.Unmarshal(text, &got) != nil || len(got) != len(keys) {
		t.Fatalf("%v: %s", err, text)
	}
	c := mustLoad(t, "data_dir: '"+dir+"'")
	for key, want := range map[string][2]string{
		"http.rate":            {"7", "COLLECTORD_HTTP_RATE"},
		"http.burst":           {"8", path + " line 3"},
		"wal.seal_after":       {"3s", "--seal-after"},
		"wal.seal_small_after": {"3s", "default: from wal.seal_after"},
		"shipper.level":        {"best", path + " line 6"},
		"http.tokens_file":     {"/credentials/tokens", path + " line 4"},
		"http.tls.cert":        {"", "default"},
		"shipper.concurrency":  {"2", "default"},
		"data_dir":             {dir, "--data-dir"},
		"shipper.destination":  {c.Shipper.Destination, "default: archive in data_dir"},
		"node":                 {c.Node, "default: the host's name"},
	} {
		if got[key].Value != want[0] || got[key].From != want[1] {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	if !strings.Contains(string(e.YAML()), "\n  rate: 7 # COLLECTORD_HTTP_RATE\n") || got["node"].Value == "" {
		t.Errorf("printed:\n%s", e.YAML())
	}
	// The output is a configuration with the same effect.
	os.Unsetenv("COLLECTORD_HTTP_RATE")
	os.Unsetenv("COLLECTORD_WAL_SEAL_AFTER")
	again, err := LoadEffective(Source{Path: writeConfig(t, string(e.YAML()))})
	if err != nil {
		t.Fatalf("%v, printed:\n%s", err, e.YAML())
	}
	for key, s := range again.all {
		if s.Value != e.all[key].Value {
			t.Errorf("%s is %q after printing, want %q", key, s.Value, e.all[key].Value)
		}
	}
}

// The name of a file can contain any characters.
func TestAnOriginDoesNotEndItsComment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a\nnode: evil")
	if err := os.WriteFile(path, []byte("node: edge-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := LoadEffective(Source{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if again := mustLoad(t, string(e.YAML())); again.Node != "edge-1" || again.DataDir != e.all["data_dir"].Value {
		t.Errorf("printed:\n%s", e.YAML())
	}
}
