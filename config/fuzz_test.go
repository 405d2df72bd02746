package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"collectord/collectord/testrun"
)

func loadBytes(t *testing.T, content string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(Source{Path: path})
	if (c == nil) == (err == nil) {
		t.Fatalf("%v, %v", c, err)
	}
	return c, err
}

// Any content of a file is an error, or all of it takes effect.
func FuzzFile(f *testing.F) {
	f.Add(exampleFile(f))
	f.Add("http: {listen: [a, b]}\n")
	f.Add("http: &h {listen: [localhost:1, 'localhost:2']}\nudp: *h\n")
	f.Add("a: &x [*x]\n")
	f.Add("http: *x\n? {a: b}\n: c\n")
	f.Add("http: &http {anonymous: true}\n*http : {anonymous: false}\n")
	f.Add("http.anonymous: true\nhttp: {anonymous: false}\n")
	f.Add("<<: {node: a}\n")
	f.Add("wal: {max_bytes: 0x10000000, sync: !!str always}\nnode: 'null'\n")
	f.Add("---\n...\n---\n")
	f.Fuzz(func(t *testing.T, content string) {
		c, err := loadBytes(t, content)
		if err != nil {
			var m Mistakes
			if !errors.As(err, &m) || len(m) == 0 {
				t.Errorf("no mistakes: %v", err)
			}
			return
		}
		// An independent parser checks the result: all leaves are keys, and only
		// written values are in effect.
		var root yaml.Node
		if err := yaml.Unmarshal([]byte(content), &root); err != nil {
			t.Fatalf("loaded, but not valid YAML: %v", err)
		}
		var leaves func(name string, n *yaml.Node)
		leaves = func(name string, n *yaml.Node) {
			switch n.Kind {
			case yaml.MappingNode:
				for i := 0; i+1 < len(n.Content); i += 2 {
					leaves(strings.TrimPrefix(name+"."+n.Content[i].Value, "."), n.Content[i+1])
				}
			case yaml.SequenceNode:
				var parts []string
				for _, item := range n.Content {
					parts = append(parts, item.Value)
				}
				if c.raw[name] != strings.Join(parts, ",") {
					t.Errorf("%s is %q, the file says %q", name, c.raw[name], parts)
				}
			default:
				if got, ok := c.raw[name]; (!ok || got != n.Value) && n.Tag != "!!null" {
					t.Errorf("%s is %q, the file says %q", name, got, n.Value)
				}
			}
		}
		for _, n := range root.Content {
			leaves("", n)
		}
		checkPrintedLoadsEqual(t, c)
	})
}

// Any value of a key is an error that names the key, or it takes effect.
func FuzzValue(f *testing.F) {
	for i, k := range Keys() {
		f.Add(i, k.Default)
		for _, s := range samples[k.Name] {
			f.Add(i, s)
		}
	}
	for j, s := range []string{"", " ", "~", "null", "0", "-1", "+1", "1e3", "0x10", "1_000", "1 KiB", "9223372036854775807TiB", "NaN", "Inf", ",", "off,off", "\x00", "\u2028", "1s2", "1h1"} {
		for i := j % testrun.OneIn(4); i < len(Keys()); i += testrun.OneIn(4) { // with TEST_ALL=1 for each key
			f.Add(i, s)
		}
	}
	f.Fuzz(func(t *testing.T, i int, s string) {
		k := Keys()[uint(i)%uint(len(Keys()))]
		var text strings.Builder
		parts := strings.Split(k.Name, ".")
		for i, part := range parts {
			text.WriteString(strings.Repeat(" ", i) + part + ":")
			if i < len(parts)-1 {
				text.WriteString("\n")
			}
		}
		value, err := yaml.Marshal(s)
		if err != nil || strings.Contains(strings.TrimRight(string(value), "\n"), "\n") {
			return // this test uses only values on one line
		}
		c, err := loadBytes(t, text.String()+" "+string(value))
		switch {
		case err != nil && !strings.Contains(err.Error(), sectionOf(k.Name)) && !strings.Contains(err.Error(), k.Name):
			t.Errorf("%s: %s is not named: %v", value, k.Name, err)
		case err == nil && c.raw[k.Name] != s:
			t.Errorf("%s is %q, the file says %q", k.Name, c.raw[k.Name], s)
		case err == nil:
			checkPrintedLoadsEqual(t, c)
		}
	})
}

// checkPrintedLoadsEqual asserts that the printed configuration equals the one in
// effect.
func checkPrintedLoadsEqual(t *testing.T, c *Config) {
	t.Helper()
	again, err := loadBytes(t, string(c.Print()))
	if err != nil || !reflect.DeepEqual(c, again) {
		t.Errorf("%v, printed:\n%s", err, c.Print())
	}
}
