package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// S3Options describe how to reach an S3-compatible storage.
type S3Options struct {
	Endpoint        string // URL, or host[:port] for HTTPS; empty means AWS
	Region          string // empty: asked of the storage
	PathStyle       string // "auto", "on" or "off"
	CredentialsFile string // AWS shared credentials format; empty: see s3Credentials
	CAFile          string // PEM, in addition to the system's
	Checksum        string // "auto", "crc32c", "md5" or "off"
	SSE             string // "", "s3", "kms" or "kms:KEY": who encrypts at rest
	StorageClass    string // empty: the bucket's default
	Proof           string // "auto", or "off": an answer of 200 is believed
	// Dial connects to the storage, or to the proxy before it; default: TCP.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Logger *slog.Logger
}

// Checksums the storage is asked to verify, strongest first.
const (
	checksumCRC32C = iota
	checksumMD5
	checksumOff
)

// s3Store keeps objects in a bucket.
type s3Store struct {
	client         *minio.Client
	checksummed    *minio.Client // the same, allowed to send checksum headers of ours
	keys           *credentials.Credentials
	keysFrom       string
	bucket, prefix string
	storageClass   string
	sse            encrypt.ServerSide
	log            *slog.Logger
	mayDowngrade   bool // the checksum, when the storage refuses it
	trustAnswers   bool // once the storage has given back what it was given

	probing    chan struct{} // holds one while the storage is probed
	checksum   atomic.Int32  // in use
	conditions atomic.Int32
	trusted    atomic.Bool // an answer of 200 is enough
	doubted    atomic.Bool // a proof has failed: metadata and size do not show what is stored
}

func newS3Store(bucket, prefix string, o S3Options) (*s3Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	host, secure := "s3.amazonaws.com", true
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Host == "" {
			u, err = url.Parse("https://" + o.Endpoint)
		}
		if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("s3 endpoint %q: write http://host:port or https://host", o.Endpoint)
		}
		host, secure = u.Host, u.Scheme == "https"
	}
	transport, err := s3Transport(o.CAFile, o.Dial)
	if err != nil {
		return nil, err
	}
	sse, err := serverSide(o.SSE)
	if err != nil {
		return nil, err
	}
	keys, from := s3Credentials(o.CredentialsFile)
	lookup := map[string]minio.BucketLookupType{"on": minio.BucketLookupPath, "off": minio.BucketLookupDNS}[o.PathStyle]
	options := minio.Options{
		Creds:        keys,
		Secure:       secure,
		Transport:    transport,
		Region:       o.Region,
		BucketLookup: lookup,
		MaxRetries:   1, // the shipper retries, and knows when to stop hoping
	}
	client, err := minio.New(host, &options)
	if err != nil {
		return nil, fmt.Errorf("s3 client: %w", err)
	}
	// Without this the library takes no checksum; with it, it would add trailers
	// where we send none, which some storages refuse.
	options.TrailingHeaders = true
	checksummed, err := minio.New(host, &options)
	if err != nil {
		return nil, fmt.Errorf("s3 client: %w", err)
	}
	s := &s3Store{
		client: client, checksummed: checksummed, keys: keys, keysFrom: from, bucket: bucket, prefix: prefix,
		storageClass: o.StorageClass, sse: sse, log: o.Logger, trustAnswers: o.Proof == "off",
		probing: make(chan struct{}, 1),
	}
	switch o.Checksum {
	case "md5":
		s.checksum.Store(checksumMD5)
	case "off":
		s.checksum.Store(checksumOff)
	case "auto", "":
		s.mayDowngrade = true
	}
	return s, nil
}

func (s *s3Store) String() string {
	return fmt.Sprintf("s3://%s/%s at %s", s.bucket, s.prefix, s.client.EndpointURL())
}

// Put sends the object in one request that the storage refuses if the key is
// taken, and returns nil once it is proven to be stored.
func (s *s3Store) Put(ctx context.Context, o *Object) error {
	t := callOptionsOf(ctx)
	ctx = WithCallOptions(ctx, t)
	if err := s.probe(ctx); err != nil {
		return s.fail("put", o.Key, t, err)
	}
	conditional := s.conditions.Load() == withConditions
	switch {
	case o.Replace && o.Replaces == "":
		return ErrNotReplaced
	case !conditional && !o.Replace:
		if _, err := s.Stat(ctx, o.Key); !errors.Is(err, ErrNotFound) {
			return errOr(err, ErrExists)
		}
	}
	checksum := s.checksum.Load()
	answer, err := s.put(ctx, o, checksum, conditional)
	if err == nil {
		if err = s.prove(ctx, o, answer, checksum); err != nil {
			err = s.fail("put", o.Key, t, err)
		}
		return err
	}
	resp := minio.ToErrorResponse(err)
	switch {
	case o.Replace && resp.Code == minio.NoSuchKey:
		return ErrNotFound
	case o.Replace && (resp.StatusCode == http.StatusPreconditionFailed || resp.StatusCode == http.StatusForbidden || refuses(resp)):
		return fmt.Errorf("%w: %w", ErrNotReplaced, err)
	case resp.StatusCode == http.StatusPreconditionFailed:
		return ErrExists
	}
	err = s.fail("put", o.Key, t, err)
	if storeErr := (*Error)(nil); refuses(resp) || errors.As(err, &storeErr) && storeErr.Kind == NotAStore {
		// Another server than the one that was asked.
		s.conditions.Store(unknownConditions)
		s.trusted.Store(false)
	}
	return err
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (s *s3Store) put(ctx context.Context, o *Object, checksum int32, conditional bool) (minio.UploadInfo, error) {
	opts := minio.PutObjectOptions{
		ContentType:          contentType(o.Key),
		DisableMultipart:     true,
		UserMetadata:         o.toHeaders(),
		ServerSideEncryption: s.sse,
		StorageClass:         s.storageClass,
	}
	client := s.client
	switch checksum {
	case checksumCRC32C:
		client = s.checksummed
		opts.UserMetadata["x-amz-checksum-crc32c"] = o.checksum()
	case checksumMD5:
		opts.SendContentMd5 = true
	}
	switch {
	case o.Replace && o.Replaces != AnyVersion:
		opts.SetMatchETag(o.Replaces)
	case o.Replace: // any version
	case conditional:
		opts.SetMatchETagExcept("*")
	}
	return client.PutObject(ctx, s.bucket, s.prefix+o.Key, o.reader(), o.Size, opts)
}

// serverSide reads who encrypts at rest.
func serverSide(sse string) (encrypt.ServerSide, error) {
	kind, key, hasKey := strings.Cut(sse, ":")
	switch {
	case sse == "":
		return nil, nil //nolint:nilnil // nobody
	case sse == "s3":
		return encrypt.NewSSE(), nil
	case kind == "kms" && (!hasKey || key != ""):
		return encrypt.NewSSEKMS(key, nil)
	}
	return nil, fmt.Errorf("s3 encryption %q: write s3, kms or kms:KEY", sse)
}

func contentType(key string) string {
	if strings.HasSuffix(key, ".json") {
		return "application/json"
	}
	return "application/zstd"
}

// Stat looks at the user metadata.
func (s *s3Store) Stat(ctx context.Context, key string) (Stored, error) {
	t := callOptionsOf(ctx)
	m, err := s.head(WithCallOptions(ctx, t), key)
	if err != nil {
		return Stored{}, s.fail("stat", key, t, err)
	}
	return m, nil
}

// Open reads an object. The answer has its metadata, too.
func (s *s3Store) Open(ctx context.Context, key string) (io.ReadCloser, Stored, error) {
	t := callOptionsOf(ctx)
	body, info, _, err := minio.Core{Client: s.client}.GetObject(WithCallOptions(ctx, t), s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return nil, Stored{}, s.fail("open", key, t, err)
	}
	return &s3Body{body, func(err error) error { return s.fail("open", key, t, err) }}, s.stored(key, info), nil
}

// stored is what the headers of an answer hold of an object.
func (s *s3Store) stored(key string, info minio.ObjectInfo) Stored {
	there := Stored{Metadata: fromHeaders(info.UserMetadata), Size: info.Size, CRC32C: info.ChecksumCRC32C, ETag: info.ETag}
	if strings.Contains(there.CRC32C, "-") { // of parts
		there.CRC32C = ""
	}
	if there.SHA256 == "" { // forgotten, or lost by some copy
		there.Metadata = fromName(key)
	}
	there.Doubtful = there.SHA256 == "" || s.doubted.Load()
	return there
}

// s3Body is an object on its way. What goes wrong on the way is a Error,
// unlike what is wrong with the object.
type s3Body struct {
	io.ReadCloser
	fail func(error) error
}

func (b *s3Body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a reader's end is never wrapped
		err = b.fail(err)
	}
	return n, err
}

func (s *s3Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		t := callOptionsOf(ctx)
		ctx, cancel := context.WithCancel(WithCallOptions(ctx, t))
		defer cancel()
		opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
		for o := range s.client.ListObjectsIter(ctx, s.bucket, opts) {
			if o.Err != nil {
				yield("", s.fail("list", prefix, t, o.Err))
				return
			}
			key, ok := strings.CutPrefix(o.Key, s.prefix)
			if !ok || !strings.HasPrefix(key, prefix) {
				yield("", s.fail("list", prefix, t, errUnlisted))
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}
