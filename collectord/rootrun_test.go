package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// daemonsVolume returns the configuration of a daemon whose data_dir has this owner, group and
// mode. Any user can read the configuration.
func daemonsVolume(t *testing.T, uid, gid int, mode os.FileMode) (config, data string, port, admin int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can have files of others")
	}
	dir := t.TempDir()
	data = filepath.Join(dir, "data")
	config, port, admin = configure(t, dir, "wal: {min_free: 0}\nshutdown: {grace: 0s}\n")
	path, err := binary()
	err = errors.Join(
		err, os.Chmod(filepath.Dir(path), 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod(config, 0o644),
		os.Mkdir(data, 0o755), os.Chown(data, uid, gid), os.Chmod(data, mode),
	)
	if err != nil {
		t.Fatal(err)
	}
	return config, data, port, admin
}

// A daemon that root starts by hand runs as the owner of data_dir. Otherwise the service could
// not read what it has written.
func TestRootStartsTheDaemonAsTheOwnerOfItsData(t *testing.T) {
	t.Parallel()
	const owner = 65531
	config, data, port, admin := daemonsVolume(t, owner, owner, 0o750)
	for range 2 { // the second start finds the log of the first one
		d := start(t, config, port, admin)
		d.post(&acknowledged{ids: map[int]string{}}, 0, 1, 1, false)
		d.kill()
		err := filepath.WalkDir(data, func(path string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err == nil && info.Sys().(*syscall.Stat_t).Uid != owner {
				err = fmt.Errorf("%s does not belong to the owner of data_dir", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(d.log(), "no longer as root") {
			t.Error(d.log())
		}
	}
}

// The root of a container may not become another user, but can write where all may. It starts
// the daemon, as it did in earlier versions, and the log says that root runs it.
func TestRootThatCanNotBecomeTheOwnerStartsTheDaemon(t *testing.T) {
	t.Parallel()
	config, _, port, admin := daemonsVolume(t, 65531, 65531, 0o777)
	run := command(t, "run", "--config", config)
	root := []syscall.SysProcIDMap{{Size: 1}} // the only user that this container has
	run.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: root, GidMappings: root}
	d := startCommand(t, run, port, admin)
	d.post(&acknowledged{ids: map[int]string{}}, 0, 1, 1, false)
	d.stop()
	if !strings.Contains(d.log(), "the daemon runs as root, and the owner of data_dir may be unable to read") {
		t.Error(d.log())
	}
}

// What the owner of data_dir may not read, root may. So a mistake says for whom it is one.
func TestMistakesOfADaemonThatRootStartsNameItsUser(t *testing.T) {
	t.Parallel()
	config, _, _, _ := daemonsVolume(t, 65531, 65531, 0o750)
	if err := os.Chmod(config, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := runCollectord(t, "run", "--config", config)
	if status != exitBadConfig || !strings.Contains(stderr, "which runs as user 65531, the owner of data_dir") || !strings.Contains(stderr, "permission denied") {
		t.Errorf("exits with %d: %s", status, stderr)
	}
}

// In a volume that belongs to root and is writable for a group of the daemon, the commands that
// write are for the daemon's user and for root.
func TestAVolumeOfRootHasTheLogOfAnotherUser(t *testing.T) {
	t.Parallel()
	const user, another = 65531, 65530
	for name, volume := range map[string]struct {
		group int
		mode  os.FileMode
	}{
		"as Kubernetes makes it with fsGroup": {user, 0o775 | os.ModeSetgid},
		"whose group the log has not":         {another, 0o775},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, data, port, admin := daemonsVolume(t, 0, volume.group, volume.mode)
			as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user, Groups: []uint32{uint32(volume.group)}}}
			run := command(t, "run", "--config", config)
			run.SysProcAttr = as
			d := startCommand(t, run, port, admin)
			d.post(&acknowledged{ids: map[int]string{}}, 0, 10, 1, false)
			d.kill()
			for _, args := range []string{"wal repair", "wal acknowledge", "ship", "ship --archive " + data + "/archive --destination file://" + data + "/other"} {
				cmd := command(t, append(strings.Fields(args), "--config", config)...)
				cmd.SysProcAttr = as
				if text, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v: %s", args, err, text)
				}
			}
			if _, stderr, status := runCollectord(t, "config", "check", "--config", config); status != 0 || !strings.Contains(stderr, "checked as user 65531") {
				t.Errorf("config check as root exits with %d: %s", status, stderr)
			}
			if out, stderr, status := runCollectord(t, "ship", "--config", config); status != 0 {
				t.Errorf("ship as root exits with %d: %s%s", status, out, stderr)
			}
			start(t, config, port, admin).stop()
			if info, err := os.Stat(filepath.Join(data, "LOCK")); err != nil || info.Sys().(*syscall.Stat_t).Uid != user {
				t.Errorf("the lock does not belong to the daemon's user: %v", err)
			}
		})
	}
}
