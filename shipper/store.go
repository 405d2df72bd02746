package shipper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"
	"time"
)

// Store is where objects go. Keys are relative to the destination; they use
// slashes, whatever the storage does.
type Store interface {
	// Put stores the object and returns once the storage has proven that it has
	// it. It replaces nothing, unless the object says so: ErrExists means that the
	// key is taken.
	Put(ctx context.Context, o *Object) error
	// Stat returns what is known of an object without reading its lines;
	// ErrNotFound means that there is none. SHA256 is empty when nothing is known.
	Stat(ctx context.Context, key string) (Stored, error)
	// List returns the keys below prefix, in no order to rely on.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
	// Open reads an object. The caller closes it.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
	// String names the destination, for people.
	String() string
}

// Stored is what a storage says of an object.
type Stored struct {
	Metadata
	Size   int64  // negative: not known
	CRC32C string // of its bytes, as base64; empty: not known
	// Doubtful means that the bytes may not be what the metadata says they are.
	Doubtful bool
}

// Errors of a Store that callers branch on.
var (
	ErrExists   = errors.New("there is an object of that name already")
	ErrNotFound = errors.New("no such object")
)

// StoreError is a failure of the storage.
type StoreError struct {
	Op         string // "put", "stat", "list" or "open"
	Key        string
	Kind       string        // short and stable, for metrics: "timeout", "AccessDenied", …
	Permanent  bool          // will not go away without somebody doing something
	OwnTrouble bool          // of this object alone: the others can go on
	Hint       string        // what to do about it, or empty
	RetryAfter time.Duration // how long the storage asks to be left alone
	Err        error
}

func (e *StoreError) Error() string {
	text := fmt.Sprintf("%s %s: %v", e.Op, e.Key, e.Err)
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

func (e *StoreError) Unwrap() error { return e.Err }

// Destination says where objects go and how to get there.
type Destination struct {
	URL string // file:///path or s3://bucket/prefix
	S3  S3Options
}

// OpenStore connects to a destination. It does not talk to the network yet.
func OpenStore(d Destination) (Store, error) {
	u, err := url.Parse(d.URL)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return nil, fmt.Errorf("destination %s: a folder is written file:///path", d.URL)
		}
		return newFileStore(u.Path)
	case "s3":
		prefix := strings.Trim(u.Path, "/")
		if prefix != "" {
			prefix += "/"
		}
		return newS3Store(u.Host, prefix, d.S3)
	}
	return nil, fmt.Errorf("destination %s: use file:///path or s3://bucket/prefix", d.URL)
}
