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
