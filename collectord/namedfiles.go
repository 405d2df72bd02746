package main

import (
	"fmt"
	"io/fs"
	"os"

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
	what, mode := "read or changed", "640"
	if f.forbidden == publicFile {
		what, mode = "changed", "644"
	}
	return fmt.Sprintf("can be %s by everyone on this host (mode %04o)", what, info.Mode().Perm()), "chmod " + mode + " " + f.path
}
