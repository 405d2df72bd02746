package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"collectord/shipper/bucket"
)

// dataPart is a file or directory in data_dir that the daemon uses.
type dataPart struct {
	path   string
	access uint32 // the access that the daemon needs: dirAccess to a directory
	effect string // of a denied access; empty: no usage is taken in
	stops  string // what stops if it is a broken link, or can't be written; empty: effect says it
}

// dataParts lists the parts of data_dir that have names of their own.
func dataParts(dir string) []dataPart {
	const aside, unnoted, unkept = "the daemon puts it aside", "lost usages can be noted neither here nor at the destination", "nothing damaged can be put aside"
	return []dataPart{
		{filepath.Join(dir, "LOCK"), unix.R_OK | unix.W_OK, "", ""},
		{filepath.Join(dir, "wal"), dirAccess, "", "nothing is taken in"},
		{filepath.Join(dir, "wal/LOG"), unix.R_OK, aside, ""},
		{filepath.Join(dir, "wal/lost"), dirAccess, unnoted, ""},
		{filepath.Join(dir, "wal/quarantine"), dirAccess, unkept, ""},
		{filepath.Join(dir, "wal/next"), dirAccess, aside, ""},
		{filepath.Join(dir, "wal/salvage"), dirAccess, aside, ""},
		{filepath.Join(dir, "spool"), dirAccess, aside, "nothing is shipped"},
	}
}

// denied returns why the process lacks the access to a part. It returns "" if it has it, and for
// parts that the daemon creates or replaces.
func (p dataPart) denied() string {
	info, err := os.Stat(p.path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return userName(os.Geteuid()) + " can't reach " + p.path + ": permission denied"
	case err == nil && info.IsDir() == (p.access == dirAccess) && errors.Is(unix.Access(p.path, p.access), unix.EACCES):
		return deniedText(p.path, info)
	}
	return ""
}

// dataDirProblems returns all reasons why the daemon can't keep its log in dir; those why it
// starts, and takes in or ships nothing meanwhile; and warnings about less.
func dataDirProblems(dir string) (all, stopped, warnings []string) {
	if why := dirProblem(dir); why != "" {
		return []string{why}, nil, nil
	}
	readOnly := isReadOnly(dir)
	if readOnly {
		stopped = append(stopped, "data_dir "+dir+" is on a read-only file system: nothing is taken in until it can be written")
	}
	for _, p := range dataParts(dir) {
		isDir := p.access == dirAccess
		if denied := p.denied(); denied != "" {
			if p.effect == "" {
				all = append(all, denied+": chown it")
			} else {
				warnings = append(warnings, denied+": chown it, or "+p.effect)
			}
			continue
		}
		var is, until string
		switch {
		case isDir && isBrokenLink(p.path): // a disk may be mounted there later
			is, until = " is a broken symbolic link: ", " until its target exists"
		case isDir && !readOnly && isReadOnly(p.path): // another disk is mounted there
			is, until = " is on a read-only file system: ", " until it can be written"
		default:
			continue
		}
		if p.stops != "" {
			stopped = append(stopped, p.path+is+p.stops+until)
		} else {
			warnings = append(warnings, p.path+is+p.effect+until)
		}
	}
	return all, stopped, append(warnings, segmentWarnings(dir)...)
}

// segmentWarnings returns a warning if the process can't use some of the segments in data_dir.
func segmentWarnings(dir string) []string {
	entries, _ := os.ReadDir(filepath.Join(dir, "wal")) // an error is one of the directory, which is reported
	first, n := "", 0
	for _, e := range entries {
		if name := e.Name(); !e.IsDir() || name[0] < '0' || name[0] > '9' {
			continue
		}
		if denied := (dataPart{path: filepath.Join(dir, "wal", e.Name()), access: dirAccess}).denied(); denied != "" {
			if n++; n == 1 {
				first = denied
			}
		}
	}
	switch n {
	case 0:
		return nil
	case 1:
		return []string{first + ": chown it, or its usages are not shipped"}
	}
	return []string{fmt.Sprintf("%s, nor %s: chown them, or their usages are not shipped", first, plural(n-1, "other segment"))}
}

// folderProblems returns why the daemon can't put objects, loss notes and heartbeats in a folder
// at a time. Each text continues a sentence about the folder.
func folderProblems(folder string, at time.Time) (all []string) {
	dirs := bucket.DirsOfFolder(folder, at)
	for _, dir := range dirs.Objects { // of the path of a directory, one problem is enough
		if why := dirProblem(dir); why != "" {
			return []string{"can't be used, and nothing is shipped until it can: " + why}
		}
	}
	if why := dirProblem(dirs.LossNotes); why != "" {
		all = append(all, "can't take loss notes: "+why)
	}
	if why := dirProblem(dirs.Heartbeats); why != "" {
		all = append(all, "can't take heartbeats: "+why)
	}
	return all
}

func isReadOnly(dir string) bool { return errors.Is(unix.Access(dir, unix.W_OK), unix.EROFS) }
