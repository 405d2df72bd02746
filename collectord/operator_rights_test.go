package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"collectord/collectord/testrun"
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
// warns of it, and for doctor it is an error.
func TestReadOnlyDirectoriesAreReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, config := filepath.Join(dir, "data"), filepath.Join(dir, "collectord.yaml")
	write(t, config, "data_dir: "+data+"\n")
	if err := errors.Join(os.MkdirAll(filepath.Join(data, "wal"), 0o750), os.Mkdir(filepath.Join(data, "spool"), 0o750)); err != nil {
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
	for place, want := range map[string]string{
		data:            "data_dir " + data + " is on a read-only file system: nothing is taken in until it can be written\n",
		data + "/wal":   data + "/wal is on a read-only file system: nothing is taken in until it can be written\n",
		data + "/spool": data + "/spool is on a read-only file system: nothing is shipped until it can be written\n",
	} {
		run := func(args string) (out string, status int) {
			cmd := exec.Command("unshare", "--mount", "sh", "-c", mount+place+" && exec "+path+" "+args+" --config "+config)
			text, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			return string(text), cmd.ProcessState.ExitCode()
		}
		if out, status := run("config check"); status != 0 || !strings.Contains(out, "warning: "+want) {
			t.Errorf("config check: exit status %d: %s\nwant: %s", status, out, want)
		}
		if out, status := run("doctor --here"); status != exitNotRight || !strings.Contains(out, "error      parts                 "+want) {
			t.Errorf("doctor: exit status %d: %s\nwant: %s", status, out, want)
		}
	}
}

// config check warns of each directory below data_dir that the daemon's user can't list, write or
// enter, and of no other one. The daemon starts anyway.
func TestCheckWarnsOfDirectoriesThatCanNotBeUsed(t *testing.T) {
	t.Parallel()
	const sealed, active, shipping = "wal/00000000000000000001-00000000000000000002", "wal/00000000000000000003", "/archive can't be used, and nothing is shipped until it can: "
	for i, c := range []struct {
		dir  string // DAY and HOUR are those of the current partition
		want string // with DENIED in place of the reason
	}{
		{"wal/lost", "warning: DENIED: chown it, or lost usages can be noted neither here nor at the destination"},
		{"wal/quarantine", "warning: DENIED: chown it, or nothing damaged can be put aside"},
		{"wal/next", "warning: DENIED: chown it, or the daemon puts it aside"},
		{"wal/salvage", "warning: DENIED: chown it, or the daemon puts it aside"},
		{sealed, "warning: DENIED: chown it, or its usages are not shipped"},
		{active, "warning: DENIED: chown it, or its usages are not shipped"},
		{"spool", "warning: DENIED: chown it, or the daemon puts it aside"},
		{"archive", shipping + "DENIED"},
		{"archive/_collectord", shipping + "DENIED"},
		{"archive/_collectord/tmp", shipping + "DENIED"},
		{"archive/DAY", shipping + "DENIED"},
		{"archive/DAY/HOUR", shipping + "DENIED"},
		{"archive/_collectord/lost", "/archive can't take loss notes: DENIED"},
		{"archive/_collectord/nodes", "/archive can't take heartbeats: DENIED"},
		{"archive/dt=2026-01-01", ""},
		{"elsewhere", ""},
		{"wal/elsewhere", ""},
	} {
		modes := []os.FileMode{0, 0o333, 0o555, 0o666}
		step := testrun.OneIn(len(modes)) // TEST_ALL=1 tries each directory with all modes
		for j := i % step; j < len(modes); j += step {
			mode := modes[j]
			t.Run(fmt.Sprintf("%s, mode %o", c.dir, mode), func(t *testing.T) {
				t.Parallel()
				p := newDaemonsHost(t)
				partition := time.Now().UTC().Format("dt=2006-01-02/hour=15")
				dir := strings.NewReplacer("DAY/HOUR", partition, "DAY", filepath.Dir(partition)).Replace(c.dir)
				p.makeDirs("wal/lost", "wal/quarantine", "wal/next", "wal/salvage", sealed, active, "spool", "archive/_collectord/tmp", "archive/"+partition, "archive/_collectord/lost", "archive/_collectord/nodes", dir)
				denied := filepath.Join(p.data, dir)
				if err := errors.Join(os.Chown(denied, os.Geteuid(), -1), os.Chmod(denied, mode)); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = os.Chmod(denied, 0o700) })
				before := p.listing()
				out, stderr, status := runCollectord(t, "config", "check", "--config", p.config)
				want := strings.ReplaceAll(c.want, "DENIED", fmt.Sprintf("%s can't use %s (it belongs to %s, mode %04o)", userName(p.user), denied, userName(os.Geteuid()), mode))
				if status != 0 || !strings.Contains(stderr, want) || (c.want == "") == strings.Contains(stderr, "warning") {
					t.Errorf("config check exits with %d: %s%s\nwant: %s", status, out, stderr, want)
				}
				if after := p.listing(); after != before {
					t.Errorf("config check has changed\n%s\nto\n%s", before, after)
				}
			})
		}
	}
}

// Whoever follows the advice about a file with secrets has a daemon that can read the file, and
// other users who can't.
func TestAdviceOnASecretLeavesItToTheDaemon(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"http: {tokens_file: SECRET}\n", "shipper: {destination: 's3://abc/p', s3: {endpoint: 'https://h', credentials_file: SECRET}}\n"} {
		for _, mode := range []os.FileMode{0o600, 0o640, 0o644, 0o666} {
			h := newDaemonsHost(t)
			secret := filepath.Join(filepath.Dir(h.config), "secret")
			write(t, h.config, "data_dir: "+h.data+"\n"+strings.ReplaceAll(key, "SECRET", secret))
			content := map[bool]string{true: oneToken, false: "[default]\naws_access_key_id = a\naws_secret_access_key = b\n"}[key[0] == 'h']
			if err := errors.Join(os.WriteFile(secret, []byte(content), 0o600), os.Chmod(secret, mode)); err != nil {
				t.Fatal(err)
			}
			_, before, _ := runCollectord(t, "config", "check", "--config", h.config)
			if i := strings.LastIndex(before, ": ch"); i >= 0 {
				if out, err := exec.Command("sh", "-c", before[i+len(": "):]).CombinedOutput(); err != nil {
					t.Errorf("%s%v: %s", before, err, out)
				}
			}
			out, after, status := runCollectord(t, "config", "check", "--config", h.config)
			info, err := os.Stat(secret)
			if status != 0 || strings.Contains(after, "warning") || err != nil || info.Mode().Perm()&secretFile != 0 {
				t.Errorf("mode %o: %sthen: %s%s (%v)", mode, before, out, after, err)
			}
		}
	}
}

// daemonsHost has a configuration, and a data_dir that belongs to the daemon's user.
type daemonsHost struct {
	t            *testing.T
	config, data string
	user         int
}

func newDaemonsHost(t *testing.T) *daemonsHost {
	t.Helper()
	dir := t.TempDir()
	h := &daemonsHost{t, filepath.Join(dir, "collectord.yaml"), filepath.Join(dir, "data"), os.Geteuid()}
	if h.user == 0 {
		h.user = 65531
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	write(t, h.config, "data_dir: "+h.data+"\n")
	err = errors.Join(
		os.Chmod(filepath.Dir(path), 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod(h.config, 0o644),
		os.Mkdir(h.data, 0o750), os.Chown(h.data, h.user, -1),
	)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// makeDirs makes directories in data_dir, with their parents, for the daemon's user.
func (h *daemonsHost) makeDirs(names ...string) {
	h.t.Helper()
	for _, name := range names {
		dir := h.data
		for part := range strings.SplitSeq(name, "/") {
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
				h.t.Fatal(err)
			}
			if err := os.Chown(dir, h.user, -1); err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

// listing lists what is in data_dir, with modes and times of modification.
func (h *daemonsHost) listing() string {
	var b strings.Builder
	_ = filepath.WalkDir(h.data, func(path string, e os.DirEntry, _ error) error { // a closed directory is listed without its content
		if info, err := e.Info(); err == nil {
			fmt.Fprintln(&b, path, info.Mode(), info.ModTime().UnixNano())
		}
		return nil
	})
	return b.String()
}
