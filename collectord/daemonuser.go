package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"collectord/config"
)

// packagedUser is the user that the packages create for the daemon.
const packagedUser = "collectord"

// userAccount is a user whose identity the process can adopt.
type userAccount struct {
	uid, gid int
	groups   []int
}

// lookUpAccount looks up a user by name or number.
func lookUpAccount(name string) (a userAccount, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return a, fmt.Errorf("%q is not a user of this host", name)
		}
	}
	ids, err := u.GroupIds()
	for _, id := range append([]string{u.Uid, u.Gid}, ids...) {
		n, convErr := strconv.Atoi(id)
		err = errors.Join(err, convErr)
		a.groups = append(a.groups, n)
	}
	a.uid, a.gid, a.groups = a.groups[0], a.groups[1], a.groups[2:]
	return a, err
}

// become permanently changes the user and groups of the process.
func (a userAccount) become() error {
	if err := syscall.Setgroups(a.groups); err != nil {
		return err
	}
	if err := syscall.Setgid(a.gid); err != nil {
		return err
	}
	return syscall.Setuid(a.uid)
}

// userName formats a user id as text, with its name if it has one.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "user " + u.Username
	}
	return fmt.Sprintf("user %d", uid)
}

// becomeLogOwner changes a root process to the owner of the log in dataDir, so that the daemon's
// user owns the files written there. It rejects other users.
func becomeLogOwner(dataDir string) error {
	return becomeOwner(filepath.Join(dataDir, "wal"), dataDir)
}

// becomeOwner changes a root process to the owner of the first path that can be reached. It
// rejects other users.
func becomeOwner(paths ...string) error {
	owner, path, err := ownerOf(paths...)
	if err != nil {
		return withLogAdvice(err)
	}
	if owner.uid == os.Geteuid() {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s belongs to %s: run this as that user, or as root", path, userName(owner.uid))
	}
	if err := owner.become(); err != nil {
		return fmt.Errorf("can't become %s, the owner of %s: %w (run this as that user)", userName(owner.uid), path, err)
	}
	return nil
}

// ownerOf returns the owner of the first path that can be reached. Callers name a directory that the
// daemon makes before its parent: a volume can belong to root, and be writable for a group. The
// account has that group, too.
func ownerOf(paths ...string) (owner userAccount, path string, err error) {
	for _, p := range paths {
		info, statErr := statWithTimeout(p)
		switch {
		case errors.Is(statErr, os.ErrDeadlineExceeded):
			return owner, p, statErr
		case statErr != nil && path == "":
			err = statErr
		case statErr != nil:
		case path == "":
			owner, path, err = accountOfOwner(info), p, nil
		default:
			owner.addGroupOf(info)
		}
	}
	return owner, path, err
}

// accountOfOwner returns the owner of a file.
func accountOfOwner(info fs.FileInfo) userAccount {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return userAccount{uid: os.Geteuid(), gid: os.Getegid()}
	}
	a, err := lookUpAccount(strconv.Itoa(int(st.Uid)))
	if err != nil { // the user has no name
		a = userAccount{uid: int(st.Uid), gid: int(st.Gid)}
	}
	a.addGroupOf(info)
	return a
}

// addGroupOf adds the group of a directory if that group can write to it.
func (a *userAccount) addGroupOf(info fs.FileInfo) {
	const groupWrites = 0o020
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && info.Mode()&groupWrites != 0 && !slices.Contains(a.groups, int(st.Gid)) {
		a.groups = append(a.groups, int(st.Gid))
	}
}

// becomeOwnerToRun changes a root process that starts the daemon to the owner of its log, if
// that is another user. Otherwise the service could not read what root has written. It returns
// that user, or "" if the process keeps its user. The error says why root could not change:
// the root of a container may lack the right to, and yet be able to write.
func becomeOwnerToRun(src config.Source) (user string, err error) {
	if os.Geteuid() != 0 {
		return "", nil
	}
	src.Uses = []string{"data_dir"}
	c := config.Read(src).Config
	if c == nil {
		return "", nil
	}
	owner, path, err := ownerOf(filepath.Join(c.DataDir, "wal"), c.DataDir)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // setuid would wait for the thread that hangs
		return "", err
	case err != nil, owner.uid == 0:
		return "", nil //nolint:nilerr // the daemon makes data_dir if it does not exist
	}
	if err := owner.become(); err != nil {
		return "", fmt.Errorf("can't become %s, the owner of %s: %w", userName(owner.uid), path, err)
	}
	return userName(owner.uid), nil
}

// becomeDaemonUser changes a root process to the daemon's user: the user of --user, the
// owner of data_dir, or the user that the packages create. It returns the user and the
// reason for the choice, or "" if the process keeps its user.
func becomeDaemonUser(src config.Source, userFlag string) (why string, err error) {
	if os.Geteuid() != 0 {
		if userFlag != "" {
			return "", errors.New("--user is for root")
		}
		return "", nil
	}
	as, why, err := daemonAccount(src, userFlag)
	if err != nil || as.uid == 0 {
		return "", err
	}
	if err := as.become(); err != nil {
		return "", fmt.Errorf("can't check as %s, %s: %w (--user root checks as root)", userName(as.uid), why, err)
	}
	return userName(as.uid) + ", " + why, nil
}

// statWithTimeout is os.Stat with a time limit of diskTimeout, because a disk may hang.
func statWithTimeout(path string) (info fs.FileInfo, err error) {
	done := make(chan struct{})
	var found fs.FileInfo
	var failed error
	go func() {
		defer close(done)
		found, failed = os.Stat(path)
	}()
	select {
	case <-done:
		return found, failed
	case <-time.After(diskTimeout):
		return nil, &fs.PathError{Op: "stat", Path: path, Err: fmt.Errorf("the disk did not answer within %v: %w", diskTimeout, os.ErrDeadlineExceeded)}
	}
}

func daemonAccount(src config.Source, userFlag string) (as userAccount, why string, err error) {
	if userFlag != "" {
		as, err = lookUpAccount(userFlag)
		return as, "named by --user", err
	}
	src.Uses = []string{"data_dir"} // the disk of another file may hang
	if c := config.Read(src).Config; c != nil {
		for _, dirs := range [][]string{{filepath.Join(c.DataDir, "wal"), c.DataDir}, {c.DataDir}} {
			as, _, err = ownerOf(dirs...)
			if errors.Is(err, os.ErrDeadlineExceeded) { // setuid would wait for the thread that hangs
				return as, "", fmt.Errorf("can't find out who owns data_dir %s: its disk did not answer within %v (--user NAME checks as that user)", c.DataDir, diskTimeout)
			}
			if err == nil && as.uid != 0 {
				return as, "the owner of data_dir (--user NAME: another)", nil
			}
		}
	}
	if as, err = lookUpAccount(packagedUser); err == nil {
		return as, "the user of the packages (--user NAME: another)", nil
	}
	return userAccount{}, "", nil
}
