package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Store is where objects go. Keys are relative to the destination; they use
// slashes, whatever the storage does.
type Store interface {
	// Put stores the object and returns once the storage has proven that it has
	// it. It replaces nothing, unless the object says so: ErrExists means that the
	// key is taken, ErrNotReplaced that it should be replaced and was not.
	Put(ctx context.Context, o *Object) error
	// Stat returns what is known of an object without reading its lines;
	// ErrNotFound means that there is none.
	Stat(ctx context.Context, key string) (Stored, error)
	// List returns the keys below prefix, in no order to rely on.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
	// Open reads an object, and returns what Stat does beside it. The caller closes it.
	Open(ctx context.Context, key string) (io.ReadCloser, Stored, error)
	// Probe finds out what the storage can do, unless that is known. The first Put
	// does so, too.
	Probe(ctx context.Context) error
	// Capabilities returns what Probe found last.
	Capabilities() Capabilities
	// String names the destination, for people.
	String() string
}

// Stored is what a storage knows of an object.
type Stored struct {
	Metadata
	Size   int64  // negative: not known
	CRC32C string // of its bytes, as base64; empty: not known
	ETag   string // names this version of it; empty: none does
	// Modified is when the storage took it, by the storage's clock; zero: not known, as in a
	// folder, where it may be the host's own clock, or when the folder was copied.
	Modified time.Time
	// Doubtful means that the bytes may not be what the metadata says they are, or
	// that there is none.
	Doubtful bool
}

// objectBody is an object on its way. What goes wrong on the way is an *Error, unlike what
// is wrong with the object.
type objectBody struct {
	io.ReadCloser
	fail func(error) error
}

func (b *objectBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a reader's end is never wrapped
		err = b.fail(err)
	}
	return n, err
}

// Errors of a Store that callers branch on.
var (
	ErrExists   = errors.New("there is an object of that name already")
	ErrNotFound = errors.New("no such object")
	// ErrNotReplaced means that the storage can't replace just one version of an object,
	// may not, or has another by now.
	ErrNotReplaced = errors.New("the storage does not replace the object")
)

// Error is a failure of the storage, of one operation on one object.
type Error struct {
	Op         string // "put", "stat", "list" or "open"
	Key        string
	Kind       string        // short and stable, for metrics: "timeout", "AccessDenied", …
	Permanent  bool          // will not go away without somebody doing something
	OwnTrouble bool          // of this object alone: the others can go on
	Forbidden  bool          // the keys are good, and do not allow it
	Hint       string        // what to do about it, or empty
	RetryAfter time.Duration // how long the storage asks to be left alone
	Err        error
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %v", strings.TrimSpace(e.Op+" "+e.Key), e.Err)
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// Kinds of an Error that others count or branch on.
const (
	Timeout   = "timeout"     // the storage did not answer, or stopped to
	TooLarge  = "too_large"   // the storage, or a proxy in front of it, refuses an object for its size
	NotAStore = "not_a_store" // the answer is not S3's
	Unproven  = "unproven"    // a put was answered with success, and nothing shows that the object is there

	NotEncrypted = "not_encrypted" // the storage does not confirm the encryption that was asked for
	Unverified   = "unverified"    // the storage does not verify the checksum that it must
)

// RaiseLimit is the hint for an object that is too large.
const RaiseLimit = "raise the limit of the storage, or of the proxy in front of it (nginx: client_max_body_size)"

// Destination says where objects go and how to get there.
type Destination struct {
	URL   string // file:///path or s3://bucket/prefix
	Owner string // log id, as HexID, of the collector that puts; empty for others
	S3    S3Options
}

// Open connects to a destination. It does not talk to the network yet.
func Open(d Destination) (Store, error) {
	u, err := url.Parse(d.URL)
	if err == nil {
		err = checkURL(u)
	}
	if err != nil {
		return nil, fmt.Errorf("destination %s: %w", d.URL, err)
	}
	if u.Scheme == "s3" {
		prefix := strings.Trim(u.Path, "/")
		if prefix != "" {
			prefix += "/"
		}
		return newS3Store(u.Host, prefix, d.S3)
	}
	s, err := newFolder(u.Path, d.Owner)
	if err != nil && d.S3.Logger != nil { // as a bucket that is away is no reason not to start
		d.S3.Logger.Error("the folder can't be used: nothing is shipped until it can (see to its owner, its mode, or the disk)", "path", u.Path, "error", err)
	}
	return s, nil
}

func checkURL(u *url.URL) error {
	if u.Scheme == "s3" && u.Host != "" || u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/") {
		return nil
	}
	return errors.New("is neither file:///path nor s3://bucket/prefix")
}

// OpenToRead connects to a destination and changes nothing there: a folder
// is not made, and what a daemon is writing is left alone.
func OpenToRead(d Destination) (Store, error) {
	u, err := url.Parse(d.URL)
	if err != nil || u.Scheme != "file" || u.Host != "" || !filepath.IsAbs(u.Path) {
		return Open(d)
	}
	if info, err := os.Stat(u.Path); err != nil {
		return nil, fmt.Errorf("archive folder: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("archive folder: %s is not a directory", u.Path)
	}
	return readFolder(u.Path), nil
}
