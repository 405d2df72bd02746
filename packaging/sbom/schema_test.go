package sbom

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/CycloneDX/cyclonedx-go" // whose module has the schemas
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// root is the directory of the module that is released.
const root = "../.."

func run(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "SOURCE_DATE_EPOCH=1764000000")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, stderr.Bytes())
	}
	return string(out)
}

func TestTheBillOfMaterialsIsValidAndNamesEveryLinkedModule(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "collectord")
	run(t, root, "go", "build", "-trimpath", "-o", binary, "./collectord")
	text := run(t, root, "go", "run", "./packaging/release", "sbom", binary, "1.2.3")

	dir := filepath.Join(strings.TrimSpace(run(t, ".", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go")), "schema")
	compiler := jsonschema.NewCompiler()
	for url, file := range map[string]string{
		"http://cyclonedx.org/schema/bom-1.6.schema.json":  "bom-1.6.schema.json",
		"http://cyclonedx.org/schema/spdx.schema.json":     "spdx.schema.json",
		"http://cyclonedx.org/schema/jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if os.IsNotExist(err) { // a later version of the module
			b, err = os.ReadFile(filepath.Join(dir, strings.Replace(file, "schemax", "schema", 1)))
		}
		if err != nil {
			t.Fatal(err)
		}
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err == nil {
			err = compiler.AddResource(url, schema)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	compiler.AssertFormat()
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(text string) error {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return err
		}
		return schema.Validate(value)
	}
	if err := validate(text); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	if validate(strings.Replace(text, `"application"`, `"program"`, 1)) == nil {
		t.Error("a type that the schema does not know is valid, too")
	}

	modules := 0
	for line := range strings.Lines(run(t, root, "go", "version", "-m", binary)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "dep" {
			continue
		}
		modules++
		if !strings.Contains(text, `"pkg:golang/`+f[1]+"@"+f[2]+`"`) {
			t.Errorf("%s %s is linked, and not listed", f[1], f[2])
		}
	}
	if modules == 0 || !strings.Contains(text, `"pkg:golang/std@`) {
		t.Errorf("%d modules are linked", modules)
	}
}
