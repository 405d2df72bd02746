//go:build packages

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// debian makes a minimal Debian, once for all machines, and keeps it for later runs.
var debian = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "collectord-tools", "debian-bookworm-2")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	unfinished, err := os.MkdirTemp(filepath.Dir(dir), "debian-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(unfinished) // fails after the rename
	out, err := exec.Command("debootstrap", "--variant=minbase",
		"--include=systemd,systemd-sysv,dbus,adduser,ca-certificates,procps,iproute2,rpm", "bookworm", unfinished).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("debootstrap: %w: %s", err, out)
	}
	if err := os.Chmod(unfinished, 0o755); err != nil {
		return "", err
	}
	return dir, os.Rename(unfinished, dir)
})

// tree makes a Debian for one test: a tmpfs layer above the common one.
func tree(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		skipMissing(t, "root")
	}
	requirePrograms(t, "debootstrap", "systemd-nspawn", "nsenter", "mount")
	base, err := debian()
	if err != nil {
		skipMissing(t, "Debian: "+err.Error())
	}
	dir := t.TempDir()
	mount := func(args ...string) {
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			skipMissing(t, "overlay mount: "+string(out))
		}
	}
	mount("-t", "tmpfs", "-o", "size=2g,mode=0755", "collectord-test", dir)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	mount("-t", "overlay", "-o", fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", base, dir, dir), "overlay", root)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", root).Run() })
	return root
}
