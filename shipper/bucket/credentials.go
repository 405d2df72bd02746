package bucket

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// systemdCredential is the name of the systemd credential that is used when no
// file is named: LoadCredential=s3-credentials:/etc/…
const systemdCredential = "s3-credentials"

// fromEnvironment names the place of keys in the environment.
const fromEnvironment = "the AWS_* variables"

// credentialError means that there is nothing to sign requests with.
type credentialError struct {
	from string
	err  error
	had  bool // there were some before: that is the place's trouble, not the configuration's
}

func (e *credentialError) Error() string {
	return fmt.Sprintf("credentials from %s: %v", e.from, e.err)
}
func (e *credentialError) Unwrap() error { return e.err }

// s3Credentials looks, in this order, at the file, the systemd credential, the
// AWS_* variables, and the role of instance, container or web identity.
func s3Credentials(file string) (c *credentials.Credentials, from string) {
	p := &keyProvider{}
	switch path, inEnvironment := KeysFile(file); {
	case path != "":
		p.from, p.file = path, path
	case inEnvironment:
		p.from, p.Provider = fromEnvironment, &credentials.EnvAWS{}
	default:
		p.from, p.Provider = "the role of the instance", instanceRole()
	}
	return credentials.New(p), p.from
}

// KeysFile returns the file that the keys are in, where one is named, or else where one
// is looked for; without one it reports whether they are in the environment.
func KeysFile(named string) (path string, inEnvironment bool) {
	if named != "" {
		return named, false
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		if path = filepath.Join(dir, systemdCredential); exists(path) {
			return path, false
		}
	}
	if os.Getenv("AWS_ACCESS_KEY_ID") != "" || os.Getenv("AWS_ACCESS_KEY") != "" {
		return "", true
	}
	return os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), false
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// instanceRole asks the metadata service of the instance, or what takes its
// place in a container.
func instanceRole() *credentials.IAM {
	role := &credentials.IAM{Client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}} // never by a proxy
	elsewhere := false
	for _, name := range []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		elsewhere = elsewhere || os.Getenv(name) != ""
	}
	if !elsewhere {
		role.Endpoint = strings.TrimRight(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "/")
	}
	return role
}

// keyProvider is a place that keys come from. A file is read again once it has
// changed; if it can't be read then, the keys before stay in use. The library's
// lock guards it.
type keyProvider struct {
	credentials.Provider // unless it is a file
	from, file           string
	read                 os.FileInfo // when the file was read last
	last                 credentials.Value
}

func (p *keyProvider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

func (p *keyProvider) RetrieveWithCredContext(cc *credentials.CredContext) (v credentials.Value, err error) {
	if p.file != "" {
		// Looked at first: what is written meanwhile is read the next time.
		if p.read, err = os.Stat(p.file); err == nil {
			v, err = readKeysFile(p.file, cc)
		}
	} else {
		v, err = p.Provider.RetrieveWithCredContext(cc)
	}
	if err == nil {
		err = checkKeys(v)
	}
	if err == nil {
		p.last = v
		return v, nil
	}
	had := p.last.AccessKeyID != ""
	if p.file != "" && had {
		return p.last, nil
	}
	return v, &credentialError{p.from, err, had}
}

func (p *keyProvider) IsExpired() bool {
	if p.file == "" {
		return p.Provider.IsExpired()
	}
	now, err := os.Stat(p.file)
	if err != nil || p.read == nil {
		return p.read == nil
	}
	return !os.SameFile(now, p.read) || now.Size() != p.read.Size() || !now.ModTime().Equal(p.read.ModTime())
}
