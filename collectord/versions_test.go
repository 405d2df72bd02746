//go:build torture

package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// versionBefore builds the program of the newest tag, or of the previous commit if there
// is no tag.
func versionBefore(t *testing.T) (path, name string) {
	t.Helper()
	git := func(args ...string) string {
		out, err := exec.Command("git", args...).Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	name = git("describe", "--tags", "--abbrev=0")
	if name == "" {
		name = git("rev-parse", "HEAD^")
		t.Logf("there is no tag yet: the previous commit, %s, is the previous version", name)
	}
	if name == "" {
		t.Fatal("this test needs the git repository with the previous version")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	for _, c := range []string{
		fmt.Sprintf("mkdir %s && git -C %s archive %s | tar -x -C %s", source, git("rev-parse", "--show-toplevel"), name, source),
		fmt.Sprintf("cd %s && CGO_ENABLED=0 go build -o %s/before ./collectord", source, dir),
	} {
		if out, err := exec.Command("sh", "-c", c).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
	return filepath.Join(dir, "before"), name
}

// TestTheVersionBeforeShipsWhatThisOneLeftOrRefusesIt undoes an upgrade: the previous version
// runs on the data_dir of this version, and then this version runs again.
func TestTheVersionBeforeShipsWhatThisOneLeftOrRefusesIt(t *testing.T) {
	requirePrograms(t, "git", "tar")
	before, name := versionBefore(t)
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {drain: 0, grace: 0}\nshipper: {destination: 'file:///dev/null/away'}\n")
	acks := &acknowledged{ids: map[int]string{}}
	d := start(t, config, port, admin)
	d.post(acks, 0, 100, 4, false)
	d.stop()
	d = start(t, config, port, admin) // a sealed segment, and one that is not
	d.post(acks, 100, 200, 4, false)
	d.kill()

	replaceInFile(t, config, "file:///dev/null/away", "file://"+dir+"/data/archive")
	state := readTree(t, filepath.Join(dir, "data"))
	old := exec.Command(before, "run", "--config", config)
	out, err := runUntil(t, old, func() bool { return countObjects(t, dir) >= 2 })
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitBadConfig {
		if now := readTree(t, filepath.Join(dir, "data")); now != state || !strings.Contains(out, "later version") {
			t.Errorf("%s changes the files of this version, or does not report that it refuses them:\n%s", name, out)
		}
		t.Logf("%s refuses it: %s", name, out)
	} else if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	} else {
		t.Logf("%s ships it", name)
	}
	d = start(t, config, port, admin)
	if got := postAs(t, http.DefaultClient, d.url(), ""); got != http.StatusCreated {
		t.Errorf("after a run of the previous version, this version answers %d", got)
	}
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	until(t, "all is shipped", func() bool { return countObjects(t, dir) >= 3 })
	d.stop()
	if n := strings.Count(mustRun(t, "cat", "--config", config), "\n"); n != 201 {
		t.Errorf("%d usages are in the archive, want 201", n)
	}
}

// runUntil runs a daemon until a condition holds or the daemon ends by itself.
func runUntil(t *testing.T, cmd *exec.Cmd, is func() bool) (out string, err error) {
	t.Helper()
	var text strings.Builder
	cmd.Stderr = &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	over := false
	until(t, "the daemon ships, or ends", func() bool {
		select {
		case err = <-ended:
			over = true
		default:
		}
		return over || is()
	})
	if !over {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		err = <-ended
	}
	return text.String(), err
}

// readTree returns the content of each file below a directory by its name.
func readTree(t *testing.T, dir string) (all string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			all += path + "\n"
			return err
		}
		b, err := os.ReadFile(path)
		all += path + " " + string(b) + "\n"
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
