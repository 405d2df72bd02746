package config

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files made from the table of keys")

// checkedIn compares a file with what the table of keys makes of it.
func checkedIn(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the table of keys says (go test ./config -update mends it): %v", path, err)
	}
}

func TestManualPageIsUpToDateAndTellsOfEveryKey(t *testing.T) {
	checkedIn(t, "../packaging/man/collectord.yaml.5", Man())
	for _, k := range Keys() {
		if !bytes.Contains(Man(), []byte("\n.B "+k.Name+"\n")) || !bytes.Contains(Man(), []byte(k.Env())) {
			t.Errorf("nothing on %s", k.Name)
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
	checkedIn(t, "../packaging/collectord.yaml", Example())
	plain := mustLoad(t, "")
	if got := mustLoad(t, string(Example())); !reflect.DeepEqual(got, plain) {
		t.Error("the example, all commented out, changes a default")
	}
	var bare strings.Builder // every key uncommented must be valid, too
	for line := range strings.Lines(string(Example())) {
		if key, _, ok := strings.Cut(strings.TrimLeft(line, " "), ": "); ok && strings.HasPrefix(key, "# ") && !strings.Contains(key[2:], " ") && key != "# Empty" {
			line = strings.Replace(line, "# ", "", 1)
		}
		bare.WriteString(line)
	}
	if got := mustLoad(t, bare.String()); !reflect.DeepEqual(got, plain) {
		t.Errorf("the example, uncommented, differs from the defaults:\n%s", bare.String())
	}
	for _, k := range Keys() {
		parts := strings.Split(k.Name, ".")
		if !strings.Contains(bare.String(), parts[len(parts)-1]+": ") {
			t.Errorf("nothing on %s", k.Name)
		}
	}
}
