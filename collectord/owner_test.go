//go:build torture

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"collectord/collectord/testrun"
)

func TestShipIsForTheOwnerOfTheData(t *testing.T) {
	if os.Geteuid() != 0 {
		skipMissing(t, "root, to have files of others")
	}
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "collectord-owner-") // other users can enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshutdown: {grace: 0s}\n")
	d := start(t, config, port, admin)
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 10, 1, false)
	d.kill()
	const owner, other = 65534, 65533
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, owner, owner))
	})
	if err = errors.Join(err, os.Chmod(dir, 0o755), os.Chmod(config, 0o644)); err != nil {
		t.Fatal(err)
	}
	binaryPath, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "collectord")
	content, err := os.ReadFile(binaryPath)
	if err = errors.Join(err, testrun.WriteProgram(copied, content)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "ship", "--config", config)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
	if text, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(text), "as that user, or as root") {
		t.Errorf("ship as another user: %v, %s", err, text)
	}
	if out, stderr, status := runCollectord(t, "ship", "--config", config); status != 0 || !strings.Contains(out, "shipped 10 records") {
		t.Fatalf("ship as root exits with %d: %s%s", status, out, stderr)
	}
	err = filepath.WalkDir(filepath.Join(dir, "data"), func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != owner {
			err = fmt.Errorf("%s does not belong to the owner", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
