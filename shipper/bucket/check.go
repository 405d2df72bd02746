package bucket

import (
	"errors"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// OptionError is an error in an option of a Destination.
type OptionError struct {
	Option string // name of a field of Destination or S3Options
	Path   string // the file that the option names, or another source of its value; may be empty
	Err    error
}

func (e *OptionError) Error() string {
	if e.Path != "" {
		return e.Path + ": " + e.Err.Error()
	}
	return e.Err.Error()
}

func (e *OptionError) Unwrap() error { return e.Err }

// Check returns the errors in a destination and in the files that it names: whatever
// makes Open fail, and keys that can't sign a request. It changes nothing, does not use
// the network and runs no program.
func Check(d Destination) (wrong []*OptionError) {
	add := func(option, path string, err error) {
		if err != nil {
			wrong = append(wrong, &OptionError{option, path, err})
		}
	}
	u, err := url.Parse(d.URL)
	if err == nil {
		err = checkURL(u)
	}
	add("URL", "", err)
	if err != nil || u.Scheme != "s3" {
		return wrong
	}
	_, err = parseEndpoint(d.S3.Endpoint)
	add("Endpoint", "", err)
	if d.S3.CAFile != "" {
		_, err = loadCAs(d.S3.CAFile)
		add("CAFile", d.S3.CAFile, err)
	}
	_, err = parseSSE(d.S3.SSE)
	add("SSE", "", err)
	path, inEnvironment := KeysFile(d.S3.CredentialsFile)
	switch {
	case path != "":
		add("CredentialsFile", path, checkKeysFile(path))
	case inEnvironment:
		v, err := (&credentials.EnvAWS{}).Retrieve()
		add("CredentialsFile", fromEnvironment, errors.Join(err, checkKeys(v)))
	}
	if len(wrong) == 0 { // the library checks the rest
		_, err = newS3Store(u.Host, "", d.S3)
		add("URL", "", err)
	}
	return wrong
}

// Warnings returns what is wrong with the proxy variables that an S3 destination uses. They are
// no mistakes: usages can be stored until the proxy is right.
func Warnings(d Destination) []string {
	endpoint, err := parseEndpoint(d.S3.Endpoint)
	if err != nil || !strings.HasPrefix(d.URL, "s3://") {
		return nil
	}
	return proxyProblems(endpoint)
}

func checkKeysFile(path string) error {
	p, err := parseKeysFile(path)
	if err != nil || p.isElsewhere() {
		return err
	}
	return checkKeys(p.Value)
}
