package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeNamesProofsThatExist reads the link definitions under the table of
// guarantees, and those of other documents: each names a file, and tests in it or in
// another.
func TestReadmeNamesProofsThatExist(t *testing.T) {
	namesProofsThatExist(t, "../README.md", 10)
	namesProofsThatExist(t, "../docs/storages.md", 5)
	namesProofsThatExist(t, "../docs/status.md", 0)
}

func namesProofsThatExist(t *testing.T, document string, atLeast int) {
	t.Helper()
	readme, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(document)
	definition := regexp.MustCompile(`(?m)^\[(\w+)\]: (\S+_test\.go) "(.*)"$`)
	proof := regexp.MustCompile(`Test\w+`)
	elsewhere := regexp.MustCompile(`in (\S+_test\.go)`)
	definitions := definition.FindAllStringSubmatch(string(readme), -1)
	if len(definitions) < atLeast {
		t.Fatalf("%s has %d link definitions", document, len(definitions))
	}
	for _, d := range definitions {
		label, path, title := d[1], d[2], d[3]
		if strings.Count(string(readme), "["+label+"]") < 2 {
			t.Errorf("[%s] is not used", label)
		}
		if !proof.MatchString(title) {
			t.Errorf("[%s] names no test", label)
		}
		for part := range strings.SplitSeq(title, ";") {
			file := path
			if m := elsewhere.FindStringSubmatch(part); m != nil {
				file = m[1]
			}
			source, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Error(err)
				continue
			}
			for _, name := range proof.FindAllString(part, -1) {
				if !strings.Contains(string(source), "func "+name+"(t *testing.T)") {
					t.Errorf("[%s]: there is no %s in %s", label, name, file)
				}
			}
		}
	}
	// Every other link to a file of the project leads somewhere.
	for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, m[1])); err != nil {
			t.Error(err)
		}
	}
}
