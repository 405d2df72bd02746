package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeNamesProofsThatExist reads the link definitions under the table of
// guarantees: each names a file, and tests in it or in another.
func TestReadmeNamesProofsThatExist(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	definition := regexp.MustCompile(`(?m)^\[(\w+)\]: (\S+_test\.go) "(.*)"$`)
	proof := regexp.MustCompile(`Test\w+`)
	elsewhere := regexp.MustCompile(`in (\S+_test\.go)`)
	definitions := definition.FindAllStringSubmatch(string(readme), -1)
	if len(definitions) < 10 {
		t.Fatalf("%d link definitions", len(definitions))
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
			source, err := os.ReadFile(filepath.Join("..", file))
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
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Error(err)
		}
	}
}

// TestReadmeTellsHowToSayWhoMaySend runs the commands of that section, as they
// are but for the port.
func TestReadmeTellsHowToSayWhoMaySend(t *testing.T) {
	for _, tool := range []string{"bash", "openssl", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "### Who may send\n")
	section, _, _ = strings.Cut(section, "\n### ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of commands", len(blocks))
	}
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	built, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, made := range []error{
		os.Mkdir(dir+"/bin", 0o700), os.Mkdir(dir+"/packaging", 0o700),
		os.Symlink(built, dir+"/bin/collectord"), os.Rename(config, dir+"/packaging/run.yaml"),
	} {
		if made != nil {
			t.Fatal(made)
		}
	}
	commands := func(i int) *exec.Cmd {
		c := exec.Command("bash", "-e", "-c", strings.ReplaceAll(blocks[i][1], "localhost:3000", fmt.Sprintf("localhost:%d", port)))
		c.Dir = dir
		return c
	}
	if out, err := commands(0).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := startAs(t, commands(1), port, admin)
	out, err := commands(2).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `{"id":"`) || d.metrics()[accepted] != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if strings.Contains(d.log(), "level=WARN") {
		t.Error("it warns")
	}
	d.stop()
}
