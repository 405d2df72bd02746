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

// diskTimeout is the time limit for a disk to list a directory. A disk that does not
// answer is not a mistake, because the daemon waits for it.
const diskTimeout = 5 * time.Second

// checkDirectories checks whether the process can use data_dir and the destination
// folder. It returns what it has warned of that stops a daemon which has started.
func (d draft) checkDirectories() (stopped []string) {
	type findings struct{ data, stopped, warnings []string }
	found := make(chan findings, 1)
	dir, folder := d.Config.DataDir, ""
	if isFolder(d.Config) {
		folder = bucketFolder(d.Config)
	}
	go func() {
		var f findings
		f.data, f.stopped, f.warnings = dataDirProblems(dir)
		if folder != "" && len(f.data) == 0 {
			for _, why := range folderProblems(folder, time.Now()) { // the daemon can start anyway
				f.warnings = append(f.warnings, "shipper.destination "+d.Config.Shipper.Destination+" "+why)
			}
		}
		found <- f
	}()
	select {
	case f := <-found:
		for _, why := range f.data {
			if d.Valid("data_dir") {
				d.Mistake("data_dir", why+d.relativeText("data_dir"))
			}
		}
		d.warn(f.stopped...)
		d.warn(f.warnings...)
		return f.stopped
	case <-time.After(diskTimeout):
		d.warn(fmt.Sprintf("data_dir %s is not checked: its disk did not answer within %v", dir, diskTimeout))
	}
	return nil
}

// relativeText explains a path that is not absolute, whose meaning depends on where a command is
// started. systemd starts a service in /.
func (d draft) relativeText(key string) string {
	text := d.Text(key)
	dir, err := os.Getwd()
	if err != nil || filepath.IsAbs(text) {
		return ""
	}
	return fmt.Sprintf("; %s is below %s, where this was started: set an absolute path, such as /var/lib/collectord", text, dir)
}

// dirAccess is the access needed to a directory whose entries change.
const dirAccess = unix.R_OK | unix.W_OK | unix.X_OK

// dirProblem returns why the process can't use or create a directory. It returns "" if
// it can, and also for errors of the disk.
func dirProblem(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		mode := uint32(dirAccess)
		if at != dir {
			mode = unix.W_OK | unix.X_OK // to create the next directory of the path
		}
		info, err := os.Stat(at)
		if err == nil && !info.IsDir() {
			err = syscall.ENOTDIR
		}
		if err == nil {
			err = unix.Access(at, mode)
		}
		if err == nil && isKernelFiles(at) {
			return at + " has files of the kernel only" + cannotCreateText(at, dir)
		}
		switch {
		case isBrokenLink(at):
			return at + " is a broken symbolic link"
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, syscall.ENOTDIR):
			return at + " is not a directory, or a part of its path is not"
		case errors.Is(err, fs.ErrPermission) && info == nil:
			return userName(os.Geteuid()) + " can't reach " + at + ": permission denied"
		case errors.Is(err, fs.ErrPermission):
			return deniedText(at, info) + cannotCreateText(at, dir)
		case errors.Is(err, syscall.EROFS) && at != dir:
			return at + " is on a read-only file system" + cannotCreateText(at, dir)
		case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
			return err.Error()
		default:
			return ""
		}
	}
}

// isKernelFiles reports whether a directory is in a file system without files of its own, such
// as /proc. Root has all rights there, and yet can't create a file.
func isKernelFiles(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && slices.Contains([]int64{
		unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.BPF_FS_MAGIC,
	}, int64(fs.Type)) //nolint:unconvert // an int32 on some architectures
}

// isBrokenLink reports whether path is a symbolic link to a missing file.
func isBrokenLink(path string) bool {
	_, err := os.Stat(path)
	_, linkErr := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist) && linkErr == nil
}

// cannotCreateText returns a text about a directory that can't be created.
func cannotCreateText(in, dir string) string {
	if in == dir {
		return ""
	}
	return ", so that " + dir + " can't be made"
}

func deniedText(path string, info fs.FileInfo) string {
	owner := ""
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = " (it belongs to " + userName(int(st.Uid)) + ", mode " + fmt.Sprintf("%04o", info.Mode().Perm()) + ")"
	}
	return userName(os.Geteuid()) + " can't use " + path + owner
}

// checkSockets checks whether the process can create its unix sockets. It checks other
// addresses as far as that is possible without binding them.
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
			switch why, maySucceed := socketProblem(a.Path); {
			case why == "":
				if gid := d.Config.HTTP.SocketGroup; list.key == "http.listen" && !canChown(gid) {
					d.warn(fmt.Sprintf("http.socket_group %d: %s is not a member, and can't give %s to this group, unless the service has the group (SupplementaryGroups=) or a socket unit makes the socket", gid, userName(os.Geteuid()), a))
				}
			case maySucceed:
				d.warn(fmt.Sprintf("%s %s can't be bound now: %s", list.key, a, why))
			default:
				d.Mistake(list.key, a.String()+" can't be bound: "+why)
			}
		}
	}
}

// canChown reports whether the process may change the group of its files to gid. It
// returns true for -1, which means no group.
func canChown(gid int) bool {
	groups, err := os.Getgroups()
	return gid < 0 || err != nil || gid == os.Getegid() || slices.Contains(groups, gid) || hasCapability(unix.CAP_CHOWN)
}

// socketProblem returns why a unix socket can't be created. maySucceed reports whether it may
// still be possible at the start, because the service manager creates directories and
// sockets below /run.
func socketProblem(path string) (why string, maySucceed bool) {
	dir := filepath.Dir(path)
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() == fs.ModeSocket:
		return "", true // an old socket is replaced, or the service manager passes it
	case err == nil:
		return "there is a file of this name that is not a socket", false
	}
	maySucceed = strings.HasPrefix(dir+"/", "/run/") || strings.HasPrefix(dir+"/", "/var/run/")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "its directory does not exist", maySucceed
	}
	return dirProblem(dir), maySucceed
}
