package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Commands explain missing permissions, and how to get them.
func TestMissingPermissions(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data, sockets, closed, config := filepath.Join(dir, "data"), filepath.Join(dir, "sockets"), filepath.Join(dir, "closed"), filepath.Join(dir, "collectord.yaml")
	write(t, config, "data_dir: "+data+"\nhttp: {listen: 'unix:"+sockets+"/s', socket_group: 0}\nudp: {listen: off}\nadmin: {listen: off}\n")
	err = errors.Join(
		os.Mkdir(data, 0o700), os.Mkdir(sockets, 0o700), os.Mkdir(closed, 0),
		os.Chmod(filepath.Dir(path), 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod(config, 0o644),
	)
	var other *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		other = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65531, Gid: 65531}}
		err = errors.Join(err, os.Chown(data, 65531, -1), os.Chown(sockets, 65531, -1))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"wal ls --data-dir " + closed, "permission denied (run this as the daemon's user, or as root)"},
		{"config check --config " + config, "warning: http.socket_group 0: user "},
		{"run --config " + config, "/s can't be given to group 0: user "},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, strings.Fields(c[0])...)
		cmd.SysProcAttr = other
		if text, _ := cmd.CombinedOutput(); !strings.Contains(string(text), c[1]) {
			t.Errorf("%s: %s\nwant: %s", c[0], text, c[1])
		}
	}
}

// A read-only data_dir is not a mistake, because the daemon waits for its disk. config check
// warns of it.
func TestCheckWarnsOfAReadOnlyDataDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, config := filepath.Join(dir, "data"), filepath.Join(dir, "collectord.yaml")
	write(t, config, "data_dir: "+data+"\n")
	if err := os.Mkdir(data, 0o750); err != nil {
		t.Fatal(err)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const mount = "mount -t tmpfs -o ro none "
	if err := exec.Command("unshare", "--mount", "sh", "-c", mount+data).Run(); err != nil {
		t.Skipf("a file system can't be mounted here: %v", err)
	}
	out, err := exec.Command("unshare", "--mount", "sh", "-c", mount+data+" && exec "+path+" config check --config "+config).CombinedOutput()
	if want := "warning: data_dir " + data + " is on a read-only file system: nothing is taken in until it can be written\n"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("config check: %v: %s\nwant: %s", err, out, want)
	}
}
