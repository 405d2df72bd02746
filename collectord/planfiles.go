package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"collectord/config"
)

// answersWithin is how long a disk may take to show a directory. One that does not answer
// is no mistake: the log and the folder wait for theirs.
const answersWithin = 5 * time.Second

// checkDirectories checks whether the process may use data_dir, and the folder that
// objects go to.
func (d draft) checkDirectories() {
	type findings struct{ data, links, folder []string }
	found := make(chan findings, 1)
	dir, folder := d.Config.DataDir, ""
	if isFolder(d.Config) {
		folder = bucketFolder(d.Config)
	}
	go func() {
		var f findings
		f.data, f.links = dataDirReasons(dir)
		if folder != "" && len(f.data) == 0 {
			if why := dirReason(folder); why != "" {
				f.folder = []string{why}
			}
		}
		found <- f
	}()
	select {
	case f := <-found:
		for _, why := range f.data {
			if d.Sound("data_dir") {
				d.Mistake("data_dir", why)
			}
		}
		for _, why := range f.links { // a disk may be mounted there later
			d.warn(why + ": nothing is taken in or shipped until it exists")
		}
		for _, why := range f.folder { // which is no reason not to start
			d.warn("shipper.destination " + d.Config.Shipper.Destination + " can't be used, and nothing is shipped until it can: " + why)
		}
	case <-time.After(answersWithin):
		d.warn(fmt.Sprintf("data_dir %s is not checked: its disk did not answer within %v", dir, answersWithin))
	}
}

// dataDirReasons says why the daemon can't keep its log in a directory, all at once, and
// which links in it lead to nothing.
func dataDirReasons(dir string) (all, links []string) {
	if why := dirReason(dir); why != "" {
		return []string{why}, nil
	}
	for _, inside := range []struct {
		name string
		mode uint32
	}{{"LOCK", unix.R_OK | unix.W_OK}, {"wal", useDir}, {"wal/LOG", unix.R_OK}, {"spool", useDir}} {
		path := filepath.Join(dir, inside.name)
		info, err := os.Stat(path)
		if inside.mode == useDir && isBrokenLink(path, err) {
			links = append(links, path+" is a symbolic link to what does not exist")
		}
		if err != nil || inside.mode == useDir && !info.IsDir() { // the daemon makes it, or puts what is there aside
			continue
		}
		if errors.Is(unix.Access(path, inside.mode), unix.EACCES) {
			all = append(all, denied(path, info)+": chown it")
		}
	}
	return all, links
}

// useDir is the access that is needed to a directory whose entries change.
const useDir = unix.R_OK | unix.W_OK | unix.X_OK

// dirReason says why the process can't use a directory, or make it; empty: it can, or it
// is the disk that does not let it.
func dirReason(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		mode := uint32(useDir)
		if at != dir {
			mode = unix.W_OK | unix.X_OK // to make the next one
		}
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			err = syscall.ENOTDIR
		}
		if err == nil {
			err = unix.Access(at, mode)
		}
		switch {
		case isBrokenLink(at, err):
			return at + " is a symbolic link to what does not exist"
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, syscall.ENOTDIR):
			return at + " is not a directory, or a part of its path is not"
		case errors.Is(err, fs.ErrPermission) && info == nil:
			return userName(os.Geteuid()) + " can't reach " + at + ": permission denied"
		case errors.Is(err, fs.ErrPermission):
			return denied(at, info) + made(at, dir)
		case errors.Is(err, syscall.EROFS) && at != dir:
			return at + " is on a read-only file system" + made(at, dir)
		case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
			return err.Error()
		default:
			return ""
		}
	}
}

// isBrokenLink reports whether a path that gave an error is a link to what does not exist.
func isBrokenLink(path string, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Lstat(path)
	return err == nil
}

// made says what could not be made in a directory.
func made(in, dir string) string {
	if in == dir {
		return ""
	}
	return ", so that " + dir + " can't be made"
}

func denied(path string, info fs.FileInfo) string {
	owner := ""
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = " (it belongs to " + userName(int(st.Uid)) + ", mode " + fmt.Sprintf("%04o", info.Mode().Perm()) + ")"
	}
	return userName(os.Geteuid()) + " can't use " + path + owner
}

// checkSockets checks whether the process can make its unix sockets, and what else can
// be known of addresses without binding them.
func (d draft) checkSockets() {
	for _, list := range []struct {
		key string
		all []config.Address
	}{{"http.listen", d.Config.HTTP.Listen}, {"admin.listen", d.Config.Admin.Listen}, {"udp.listen", d.Config.UDP.Listen}} {
		for _, entry := range config.Entries(list.all) {
			a := entry[0]
			if a.Network != "unix" {
				d.warn(addressWarnings(list.key, a)...)
				continue
			}
			switch why, may := socketReason(a.Path); {
			case why == "":
				if gid := d.Config.HTTP.SocketGroup; list.key == "http.listen" && !mayGiveTo(gid) {
					d.warn(fmt.Sprintf("http.socket_group %d: %s is not a member, and can't give %s to it, unless the service (SupplementaryGroups=) or a socket unit does", gid, userName(os.Geteuid()), a))
				}
			case may:
				d.warn(fmt.Sprintf("%s %s can't be bound now: %s", list.key, a, why))
			default:
				d.Mistake(list.key, a.String()+" can't be bound: "+why)
			}
		}
	}
}

// mayGiveTo reports whether the process may give its files to a group; -1: none is named.
func mayGiveTo(gid int) bool {
	groups, err := os.Getgroups()
	return gid < 0 || err != nil || gid == os.Getegid() || slices.Contains(groups, gid) || hasCapability(unix.CAP_CHOWN)
}

// socketReason says why a unix socket can't be made. It may be possible at a start: the
// service manager makes directories below /run, and sockets in them.
func socketReason(path string) (why string, may bool) {
	dir := filepath.Dir(path)
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() == fs.ModeSocket:
		return "", true // there was one, or it is passed to the daemon
	case err == nil:
		return "there is a file of this name that is not a socket", false
	}
	may = strings.HasPrefix(dir+"/", "/run/") || strings.HasPrefix(dir+"/", "/var/run/")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "its directory does not exist", may
	}
	return dirReason(dir), may
}
