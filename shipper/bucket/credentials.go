package bucket

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// systemdCredential is the name of the systemd credential that is used if no file is
// configured: LoadCredential=s3-credentials:/etc/…
const systemdCredential = "s3-credentials"

// fromEnvironment describes the environment as the source of the keys.
const fromEnvironment = "the AWS_* variables"

// fromRole describes the role of the instance, container or web identity as the source.
const fromRole = "the role of the instance"

// credentialError means that there are no keys to sign requests with.
type credentialError struct {
	from    string
	err     error
	hadKeys bool // there were keys before: the source fails, not the configuration
}

func (e *credentialError) Error() string {
	return fmt.Sprintf("credentials from %s: %v", e.from, e.err)
}
func (e *credentialError) Unwrap() error { return e.err }

// hint says where to set the keys.
func (e *credentialError) hint() string {
	const see = "see shipper.s3.credentials_file; docs/storages.md, Credentials"
	if e.from == fromRole && !e.hadKeys {
		return "no keys are set, neither in a file nor in the AWS_* variables, so the role was asked: " + see
	}
	return see
}

// findCredentials returns the first keys that it finds: in the file, the systemd
// credential, the AWS_* variables, the file AWS_SHARED_CREDENTIALS_FILE, or the role of
// instance, container or web identity.
func findCredentials(file string) (*credentials.Credentials, *keyProvider) {
	p := &keyProvider{}
	switch path, inEnvironment := KeysFile(file); {
	case path != "":
		p.from, p.file = path, path
	case inEnvironment:
		p.from, p.Provider = fromEnvironment, &credentials.EnvAWS{}
	default:
		p.from, p.Provider = fromRole, instanceRole()
	}
	return credentials.New(p), p
}

// KeysFile returns the file that contains the keys: the named one, or one in a default
// place. Without a file it reports whether the keys are in the environment.
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

// instanceRole returns a provider that asks the metadata service of the instance, or its
// replacement in a container.
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

// keyProvider provides keys from one source. A changed file is read again. If a source fails, the
// old keys stay in use, those of a role until they expire. The library's lock guards the fields
// except problem.
type keyProvider struct {
	credentials.Provider // nil for a file
	from, file           string
	lastStat             os.FileInfo // state of the file when it was last read
	lastKeys             credentials.Value
	nextTry              time.Time              // a source that failed is not asked for new keys before
	problem              atomic.Pointer[string] // why old keys are in use; nil: they are those of the source
}

// source describes the source of the keys in use.
func (p *keyProvider) source() string {
	if problem := p.problem.Load(); problem != nil {
		return p.from + ", from which no new keys can be read (" + *problem + ")"
	}
	return p.from
}

func (p *keyProvider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

func (p *keyProvider) RetrieveWithCredContext(cc *credentials.CredContext) (v credentials.Value, err error) {
	if p.file != "" {
		// Stat comes before the read, so that a change in between is noticed the next
		// time.
		if p.lastStat, err = os.Stat(p.file); err == nil {
			v, err = readKeysFile(p.file, cc)
		}
	} else {
		v, err = p.Provider.RetrieveWithCredContext(cc)
	}
	if err == nil {
		err = checkKeys(v)
	}
	if err == nil {
		p.lastKeys = v
		p.problem.Store(nil)
		return v, nil
	}
	hadKeys := p.lastKeys.AccessKeyID != ""
	if hadKeys && (p.file != "" || time.Now().Before(p.lastKeys.Expiration)) {
		p.problem.Store(new(err.Error()))
		p.nextTry = time.Now().Add(keysRetryDelay)
		return p.lastKeys, nil
	}
	return v, &credentialError{p.from, err, hadKeys}
}

// expiryMargin is how long before their expiration keys are asked for again.
const expiryMargin = time.Minute

// keysRetryDelay is how long the keys in use are not asked for again after their source has
// failed: each request waits while a source does not answer. Keys that the storage rejects are
// asked for at once.
const keysRetryDelay = 20 * time.Second

func (p *keyProvider) IsExpired() bool {
	mayTry := !time.Now().Before(p.nextTry)
	if p.file == "" {
		return p.Provider.IsExpired() && mayTry
	}
	if at := p.lastKeys.Expiration; !at.IsZero() && time.Until(at) < expiryMargin && mayTry {
		return true
	}
	now, err := os.Stat(p.file)
	if err != nil || p.lastStat == nil {
		return p.lastStat == nil
	}
	return !os.SameFile(now, p.lastStat) || now.Size() != p.lastStat.Size() || !now.ModTime().Equal(p.lastStat.ModTime())
}
