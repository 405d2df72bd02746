package main

import (
	"errors"
	"io/fs"
	"strings"

	"collectord/collectord/auth"
	"collectord/config"
	"collectord/shipper/bucket"
)

// plan is the input of a start: the settings and the files that they name, read and
// checked. Making a plan changes nothing, binds nothing and connects to nothing. Only
// plan detects mistakes in a configuration, so that config check, a start and a reload
// agree.
type plan struct {
	cfg      *config.Config
	policy   auth.Policy
	warnings []string // to be logged
}

// newPlan reads and checks a configuration. The error contains all mistakes.
func newPlan(src config.Source) (*plan, error) {
	d, policy := newDraft(src)
	if len(d.Mistakes) > 0 {
		return nil, &configError{d.Mistakes, d.Warnings}
	}
	return &plan{d.Config, policy, d.Warnings}, nil
}

// configError is the error for an invalid configuration. It also contains the warnings,
// which may explain the mistakes.
type configError struct {
	mistakes config.Mistakes
	warnings []string
}

func (r *configError) Error() string { return r.mistakes.Error() }
func (r *configError) Unwrap() error { return r.mistakes }

// draft is a configuration that is being checked against this host. A value with a
// mistake is checked no further.
type draft struct {
	*config.Draft
	stopped []string // the warnings that mean that the daemon starts, and takes in or ships nothing
}

func newDraft(src config.Source) (d draft, policy auth.Policy) {
	if d = (draft{Draft: config.Read(src)}); d.Config != nil {
		policy = d.readPolicy()
		d.checkDestination()
		d.checkFiles()
		d.checkSockets()
		d.stopped = d.checkDirectories()
	}
	return d, policy
}

// addFileMistake adds a mistake about a file that a key names.
func (d draft) addFileMistake(key, path string, err error) {
	d.Mistakes = append(d.Mistakes, config.Mistake{Key: key, Origin: path, Reason: fileReason(path, err)})
}

func fileReason(path string, err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	reason := err.Error()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return deniedReading(path)
	case errors.Is(err, fs.ErrNotExist) && !strings.Contains(path, "/"):
		return reason + " (a name without a slash is a credential in the $CREDENTIALS_DIRECTORY of systemd: systemctl reload collectord checks it inside the service)"
	}
	return reason
}

func (d draft) warn(warnings ...string) { d.Warnings = append(d.Warnings, warnings...) }

// checkDestination checks the options of the storage and the files that they name.
func (d draft) checkDestination() {
	to := destinationToRead(d.Config)
	switch {
	case !d.Valid("shipper.destination"): // the files can be checked anyway
		if to.S3.CAFile == "" && to.S3.CredentialsFile == "" {
			return
		}
		to.URL = "s3://any"
	case isFolder(d.Config):
		return
	}
	keys := map[string]string{
		"URL": "shipper.destination", "Endpoint": "shipper.s3.endpoint", "SSE": "shipper.s3.sse",
		"CAFile": "shipper.s3.ca_file", "CredentialsFile": "shipper.s3.credentials_file",
	}
	d.warn(bucket.Warnings(to)...)
	for _, e := range bucket.Check(to) {
		key := keys[e.Option]
		switch {
		case !d.Valid(key):
		case e.Path != "":
			d.addFileMistake(key, e.Path, e.Err)
		default:
			d.Mistake(key, e.Err.Error())
		}
	}
}
