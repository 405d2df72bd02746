package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"collectord/config"
	"collectord/shipper/bucket"
)

// namedFile is a file that a key of the configuration names.
type namedFile struct {
	key, path string
	forbidden fs.FileMode // permission bits that other users must not have
}

// Values of namedFile.forbidden, as permission bits of other users.
const (
	secretFile fs.FileMode = 0o006
	publicFile fs.FileMode = 0o002
)

// namedFiles returns the files that the configuration names. It includes the file of
// the storage's keys even if no key names it.
func namedFiles(cfg *config.Config) (all []namedFile) {
	add := func(key, path string, forbidden fs.FileMode) {
		if path != "" {
			all = append(all, namedFile{key, path, forbidden})
		}
	}
	add("http.tokens_file", cfg.HTTP.TokensFile, secretFile)
	add("http.tls.cert", cfg.HTTP.TLS.Cert, publicFile)
	add("http.tls.key", cfg.HTTP.TLS.Key, secretFile)
	add("http.tls.client_ca", cfg.HTTP.TLS.ClientCA, publicFile)
	if !isFolder(cfg) {
		keys, _ := bucket.KeysFile(cfg.Shipper.S3.CredentialsFile)
		add("shipper.s3.credentials_file", keys, secretFile)
		add("shipper.s3.ca_file", cfg.Shipper.S3.CAFile, publicFile)
	}
	return all
}

// checkFiles warns of files that every user of this host can change, or of secrets that
// every user can read. The code that uses a file checks whether it is readable and
// valid.
func (d draft) checkFiles() {
	for _, f := range namedFiles(d.Config) {
		if why, advice := f.accessProblem(); why != "" && d.Valid(f.key) {
			d.warn(f.warning(why, advice))
		}
	}
}

func (f namedFile) warning(why, advice string) string {
	return fmt.Sprintf("%s %s %s: %s", f.key, f.path, why, advice)
}

// accessProblem returns what other users of this host can do with the file, and how to correct
// that. It returns empty texts if the mode is right.
func (f namedFile) accessProblem() (why, advice string) {
	info, err := os.Stat(f.path)
	if err != nil || info.Mode().Perm()&f.forbidden == 0 {
		return "", ""
	}
	what, advice := "read or changed", "chmod 640 "+f.path
	if f.forbidden == publicFile {
		what, advice = "changed", "chmod 644 "+f.path
	} else if change := groupChange(f.path, info); change != "" {
		advice = change + " && " + advice
	}
	return fmt.Sprintf("can be %s by everyone on this host (mode %04o)", what, info.Mode().Perm()), advice
}

// groupChange returns the command that lets the process read a file of mode 0640. It returns ""
// if the process owns the file, or is in the file's group.
func groupChange(path string, info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	groups, err := os.Getgroups()
	if !ok || err != nil || os.Geteuid() == 0 || int(st.Uid) == os.Geteuid() || int(st.Gid) == os.Getegid() || slices.Contains(groups, int(st.Gid)) {
		return ""
	}
	name := strconv.Itoa(os.Getegid())
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	return "chgrp " + name + " " + path
}

// deniedReading returns why the process can't read a file, and how to correct that.
func deniedReading(path string) string {
	who := "can't be read by " + userName(os.Geteuid()) + ": permission denied"
	info, err := os.Stat(path)
	if err != nil { // of a directory in its path
		return who
	}
	if change := groupChange(path, info); change != "" {
		return fmt.Sprintf("%s (mode %04o): %s && chmod 640 %s", who, info.Mode().Perm(), change, path)
	}
	return fmt.Sprintf("%s (mode %04o): chmod 640 %s", who, info.Mode().Perm(), path)
}
