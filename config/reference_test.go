package config

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the files made from the table of keys")

// compareGenerated compares a file with the one generated from the table of keys.
func compareGenerated(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s differs from the table of keys (run go test ./config -update): %v", path, err)
	}
}

func TestTheManualPageIsUpToDateAndDocumentsEveryKey(t *testing.T) {
	compareGenerated(t, "../packaging/man/collectord.yaml.5", Man())
	for _, k := range Keys() {
		if !bytes.Contains(Man(), []byte("\n.B "+k.Name+"\n")) || !bytes.Contains(Man(), []byte(k.Env())) {
			t.Errorf("%s is not documented", k.Name)
		}
	}
	for line := range strings.Lines(string(Man())) {
		if strings.HasPrefix(line, ".") && !strings.HasPrefix(line, ".B") && !strings.HasPrefix(line, ".I") &&
			!strings.HasPrefix(line, ".S") && !strings.HasPrefix(line, ".T") && !strings.HasPrefix(line, ".P") &&
			!strings.HasPrefix(line, ".br") && !strings.HasPrefix(line, `.\"`) {
			t.Errorf("would be read as a request: %s", line)
		}
	}
}

func TestExampleFileIsUpToDateAndChangesNothing(t *testing.T) {
	example := exampleFile(t)
	compareGenerated(t, "../packaging/collectord.yaml", []byte(example))
	for line := range strings.Lines(example) {
		if len(line) > 101 {
			t.Errorf("longer than 100 characters: %s", line)
		}
	}
	defaults := mustLoad(t, "")
	if got := mustLoad(t, example); !reflect.DeepEqual(got, defaults) {
		t.Error("the example, which is all commented out, changes a default")
	}
	var bare strings.Builder // every key uncommented must be valid, too
	for line := range strings.Lines(example) {
		if key, _, ok := strings.Cut(strings.TrimLeft(line, " "), ": "); ok && strings.HasPrefix(key, "# ") && !strings.Contains(key[2:], " ") && key != "# Empty" {
			line = strings.Replace(line, "# ", "", 1)
		}
		bare.WriteString(line)
	}
	if got := mustLoad(t, bare.String()); !reflect.DeepEqual(got, defaults) {
		t.Errorf("the example, uncommented, differs from the defaults:\n%s", bare.String())
	}
	for _, k := range Keys() {
		parts := strings.Split(k.Name, ".")
		if !strings.Contains(bare.String(), parts[len(parts)-1]+": ") {
			t.Errorf("%s is not documented", k.Name)
		}
	}
}

// exampleFile returns the example file with the given flags set.
func exampleFile(t testing.TB, set ...string) string {
	t.Helper()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse(set); err != nil {
		t.Fatal(err)
	}
	text, err := Example(flags)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The packages install a file that is generated this way.
func TestExampleFileSetsWhatFlagsSetAndNothingElse(t *testing.T) {
	defaults := mustLoad(t, "")
	text := exampleFile(t, "--data-dir=/var/lib/collectord", "--shutdown-grace=0")
	got := mustLoad(t, text)
	if got.DataDir != "/var/lib/collectord" || got.Shutdown.Grace != 0 {
		t.Errorf("data_dir %s, shutdown.grace %v", got.DataDir, got.Shutdown.Grace)
	}
	_, changes, err := defaults.Reloaded(got)
	if err != nil {
		t.Error(err)
	}
	for _, c := range changes {
		if c.Key != "data_dir" && c.Key != "shutdown.grace" {
			t.Errorf("changed %v", c)
		}
	}
	bare := regexp.MustCompile(`(?m)^ *[a-z_]+: .*$`).FindAllString(text, -1)
	if !slices.Equal(bare, []string{"data_dir: /var/lib/collectord", "  grace: 0"}) {
		t.Errorf("set: %q", bare)
	}
	for _, k := range Keys() {
		parts := strings.Split(k.Name, ".")
		if !regexp.MustCompile(`(?m)^ *(# )?` + parts[len(parts)-1] + `: `).MatchString(text) {
			t.Errorf("%s is not documented", k.Name)
		}
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse([]string{"--shutdown-grace=soon"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Example(flags); err == nil || !strings.Contains(err.Error(), "--shutdown-grace") {
		t.Errorf("an example with an invalid value: %v", err)
	}
}
