package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"collectord/wal"
)

// unixClient returns an HTTP client for a unix socket.
func unixClient(t *testing.T, path string) *http.Client {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestUnixSocketsHaveTheirModeAndGroup(t *testing.T) {
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, "http: {listen: ", fmt.Sprintf("http: {socket_mode: 0620, socket_group: %d, listen: [unix:%s/http, unix:%[2]s/more, ", os.Getegid(), dir))
	replaceInFile(t, config, fmt.Sprintf("'127.0.0.1:%d'}\nudp", port), fmt.Sprintf("'127.0.0.1:%d']}\nudp", port))
	replaceInFile(t, config, "admin: {listen: ", "admin: {listen: [unix:"+dir+"/admin, ")
	replaceInFile(t, config, fmt.Sprintf("'127.0.0.1:%d'}\nlog", admin), fmt.Sprintf("'127.0.0.1:%d']}\nlog", admin))
	d := start(t, config, port, admin)
	for name, mode := range map[string]fs.FileMode{"http": 0o620, "more": 0o620, "admin": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode || info.Sys().(*syscall.Stat_t).Gid != uint32(os.Getegid()) {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if got := postAs(t, unixClient(t, dir+"/http"), "http://x/api/usages", ""); got != http.StatusCreated {
		t.Errorf("answered %d", got)
	}
	d.stop()
	for _, name := range []string{"http", "more", "admin"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s still exists: %v", name, err)
		}
	}
}

// root can give a socket to any group, other users only to their own groups.
func TestAUnixSocketBelongsToItsGroup(t *testing.T) {
	group := 12345
	if os.Geteuid() != 0 {
		groups, err := os.Getgroups()
		if err != nil {
			t.Fatal(err)
		}
		group = append(groups, os.Getegid())[0]
	}
	path := t.TempDir() + "/socket"
	ln, err := listenUnix(path, socketAccess{0o660, group})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if info, err := os.Stat(path); err != nil || int(info.Sys().(*syscall.Stat_t).Gid) != group || info.Mode().Perm() != 0o660 {
		t.Errorf("%v %v", info, err)
	}
}

// The daemon replaces the socket of a killed daemon. It replaces no socket in use and no
// other file.
func TestOnlyAbandonedSocketsAreReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := dir + "/http"
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, fmt.Sprintf("http: {listen: '127.0.0.1:%d'", port), "http: {listen: 'unix:"+socket+"'")
	d := start(t, config, port, admin)
	another, _, _ := configure(t, t.TempDir(), "")
	text, err := os.ReadFile(another)
	if err != nil {
		t.Fatal(err)
	}
	from := strings.Index(string(text), "http: {listen: '")
	to := from + strings.Index(string(text)[from:], "'}")
	write(t, another, string(text[:from])+"http: {listen: 'unix:"+socket+string(text[to:]))
	refused := func(status int, why string) {
		t.Helper()
		out, err := command(t, "run", "--config", another).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != status || !strings.Contains(string(out), why) || !strings.Contains(string(out), socket) {
			t.Errorf("%v: %s", err, out)
		}
	}
	refused(exitError, "another process listens on it")
	client := unixClient(t, socket)
	if got := postAs(t, client, "http://x/api/usages", ""); got != http.StatusCreated {
		t.Errorf("the first daemon is no longer reached: %d", got)
	}
	d.kill()
	d = start(t, config, port, admin)
	if got := postAs(t, client, "http://x/api/usages", ""); got != http.StatusCreated {
		t.Errorf("after a kill and a start: %d", got)
	}
	d.stop()
	for name, make := range map[string]func() error{
		"a file":      func() error { return os.WriteFile(socket, []byte("precious"), 0o600) },
		"a link":      func() error { return os.Symlink(config, socket) },
		"a directory": func() error { return os.Mkdir(socket, 0o700) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		refused(exitBadConfig, "that is not a socket")
		if _, err := os.Lstat(socket); err != nil {
			t.Errorf("%s was removed: %v", name, err)
		}
		os.Remove(socket)
	}
}

// A socket counts as in use even if its owner is too busy to accept connections.
func TestABusySocketIsInUse(t *testing.T) {
	path := t.TempDir() + "/socket"
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", path) // this connection fills the listen queue and is never accepted
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := listenUnix(path, socketAccess{0o600, -1}); err == nil || !strings.Contains(err.Error(), "may listen on it") {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

// Several daemons find the same abandoned socket at the same time. Exactly one gets it, and
// is reached.
func TestOneOfManyTakesAnAbandonedSocket(t *testing.T) {
	path := t.TempDir() + "/socket"
	for range 20 {
		old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		old.SetUnlinkOnClose(false)
		old.Close()
		var mu sync.Mutex
		var won []net.Listener
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				ln, err := listenUnix(path, socketAccess{0o600, -1})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, ln)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d daemons got the socket", len(won))
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		won[0].Close()
	}
}

// The socket may be in the data directory, which a running collectord has locked.
func TestASocketInADataDirectoryInUseSaysWhoUsesIt(t *testing.T) {
	dir := t.TempDir()
	log, err := wal.Open(dir, wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := listenUnix(dir+"/admin", socketAccess{0o600, -1}); !errors.As(err, new(*wal.InUseError)) {
		t.Errorf("got %v", err)
	}
}
