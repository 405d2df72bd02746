package admin

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write packaging/metrics.md anew")

func TestReferenceIsMadeOfTheCode(t *testing.T) {
	const path = "../../packaging/metrics.md"
	var want bytes.Buffer
	if err := WriteReference(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s does not list what the code exports: run this test with -update (%v)", path, err)
	}
}
