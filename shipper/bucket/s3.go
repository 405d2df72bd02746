package bucket

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// S3Options describe how to reach an S3-compatible storage.
type S3Options struct {
	Endpoint        string // URL, or host[:port] for HTTPS; empty means AWS
	Region          string // empty: the storage is asked for it
	PathStyle       string // "auto", "on" or "off"
	CredentialsFile string // AWS shared credentials format; empty: see findCredentials
	CAFile          string // PEM, in addition to the system's
	Checksum        string // "auto", "crc32c", "md5", "sha256" or "off"
	SSE             string // encryption at rest: "", "s3", "kms" or "kms:KEY"
	SSEUnconfirmed  string // "reject", or "accept": a storage that does not confirm SSE is used
	StorageClass    string // empty: the bucket's default
	Proof           string // "auto", or "off": a status of 200 counts as proof
	// Dial connects to the storage, or to the proxy in front of it; default: TCP.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Logger *slog.Logger

	shared *transport // by all destinations of a pattern; nil: each has its own
}

// s3Store stores objects in a bucket.
type s3Store struct {
	client            *minio.Client
	transport         *transport
	keys              *credentials.Credentials
	provider          *keyProvider // of keys
	bucket, prefix    string
	storageClass      string
	sse               encrypt.ServerSide
	acceptUnconfirmed bool // of encryption
	logger            *slog.Logger
	candidates        []checksum // to try
	trustStatus       bool       // after the probe's object was read back

	probing          chan struct{}    // full while a probe runs; capacity 1
	unspecificErrors map[checksum]int // unspecific errors for a wrong checksum; guarded by probing
	current          atomic.Pointer[capabilities]
	lastFound        atomic.Pointer[capabilities] // result of the last probe that succeeded
	proofFailed      atomic.Bool                  // a proof has failed, so metadata and size are not trusted
}

func newS3Store(bucket, prefix string, o S3Options) (*s3Store, error) {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	endpoint, err := parseEndpoint(o.Endpoint)
	if err != nil {
		return nil, err
	}
	transport := o.shared
	if transport == nil {
		if transport, err = newS3Transport(o.CAFile, o.Dial); err != nil {
			return nil, err
		}
	}
	sse, err := parseSSE(o.SSE)
	if err != nil {
		return nil, err
	}
	keys, provider := findCredentials(o.CredentialsFile)
	lookup := map[string]minio.BucketLookupType{"on": minio.BucketLookupPath, "off": minio.BucketLookupDNS}[o.PathStyle]
	options := minio.Options{
		Creds:        keys,
		Secure:       endpoint.Scheme == "https",
		Transport:    repeatGuard{transport},
		Region:       o.Region,
		BucketLookup: lookup,
		MaxRetries:   1, // the shipper retries, and knows which errors are permanent
	}
	client, err := minio.New(endpoint.Host, &options)
	if err != nil {
		return nil, fmt.Errorf("s3 client: %w", err)
	}
	return &s3Store{
		client: client, transport: transport, keys: keys, provider: provider, bucket: bucket, prefix: prefix,
		storageClass: o.StorageClass, sse: sse, acceptUnconfirmed: o.SSEUnconfirmed == "accept", logger: o.Logger,
		candidates: candidates(o.Checksum), trustStatus: o.Proof == "off", probing: make(chan struct{}, 1), unspecificErrors: map[checksum]int{},
	}, nil
}

// parseEndpoint returns an endpoint with its scheme and host only.
func parseEndpoint(endpoint string) (*url.URL, error) {
	if endpoint == "" {
		return &url.URL{Scheme: "https", Host: "s3.amazonaws.com"}, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		u, err = url.Parse("https://" + endpoint)
	}
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("s3 endpoint %q: write http://host:port or https://host", endpoint)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func (s *s3Store) String() string {
	return fmt.Sprintf("s3://%s/%s at %s", s.bucket, s.prefix, s.client.EndpointURL())
}

// Put sends the object in one request, which the storage refuses if the key is taken. It
// returns nil after the storage has proven that it has the object.
func (s *s3Store) Put(ctx context.Context, o *Object) error {
	t := callOptionsOf(ctx)
	ctx = WithCallOptions(ctx, t)
	current, err := s.probe(ctx)
	if err != nil {
		return s.fail("put", o.Key, t, err)
	}
	conditional := current.conditional
	switch {
	case o.Latest:
		conditional = false
	case o.Replace && o.Replaces == "":
		return ErrNotReplaced
	case o.Replace:
		conditional = false
	case !conditional:
		if _, err := s.Stat(ctx, o.Key); !errors.Is(err, ErrNotFound) {
			return errOr(err, ErrExists)
		}
	}
	response, err := s.put(ctx, o, putOptions{checksum: current.checksum, conditional: conditional})
	if err == nil {
		if err = s.prove(ctx, o, response, current); err == nil {
			_, err = s.confirmedEncryption(response)
		}
		if err != nil {
			if proof := (*proofError)(nil); !o.Latest || errors.As(err, &proof) && proof.kind == NotEncrypted {
				s.forget(current)
			}
			err = s.fail("put", o.Key, t, err)
		}
		return err
	}
	resp := minio.ToErrorResponse(err)
	switch {
	case o.Replace && resp.Code == minio.NoSuchKey:
		return ErrNotFound
	case o.Replace && (resp.StatusCode == http.StatusPreconditionFailed || resp.StatusCode == http.StatusForbidden || isUnsupportedHeader(resp)):
		return fmt.Errorf("%w: %w", ErrNotReplaced, err)
	case resp.StatusCode == http.StatusPreconditionFailed && conditional:
		return ErrExists
	}
	err = s.fail("put", o.Key, t, err)
	if storeErr := (*Error)(nil); !o.Latest && (isUnsupportedHeader(resp) || errors.As(err, &storeErr) && storeErr.Kind == NotAStore) {
		s.forget(current) // another server may answer now
	}
	return err
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// putOptions change how put sends an object.
type putOptions struct {
	checksum    checksum
	wrong       bool // the checksum is deliberately wrong
	conditional bool // nothing may be replaced
	// These omit a setting, to see whether the setting causes a failure.
	withoutEncryption, withoutClass bool
}

// putResponse is the storage's answer to a put.
type putResponse struct {
	minio.UploadInfo
	encryption string
}

func (s *s3Store) put(ctx context.Context, o *Object, options putOptions) (response putResponse, err error) {
	opts := minio.PutObjectOptions{
		ContentType:          contentType(o.Key),
		UserMetadata:         o.toHeaders(),
		ServerSideEncryption: s.sse,
		StorageClass:         s.storageClass,
		DisableContentSha256: options.checksum == checksumSHA256,
	}
	if o.Key == probeKey { // to see whether the storage keeps user metadata
		opts.UserMetadata[formatHeader] = strconv.Itoa(Format)
	}
	if options.withoutEncryption {
		opts.ServerSideEncryption = nil
	}
	if options.withoutClass || o.Latest { // other classes bill a minimum of a month or more
		opts.StorageClass = ""
	}
	switch {
	case o.Replace && o.Replaces != AnyVersion:
		opts.SetMatchETag(o.Replaces)
	case options.conditional:
		opts.SetMatchETagExcept("*")
	}
	md5Base64, sha256Hex := "", ""
	if options.wrong {
		o = o.withWrongChecksums()
	}
	switch options.checksum {
	case checksumCRC32C:
		opts.UserMetadata["x-amz-checksum-crc32c"] = o.checksum()
	case checksumMD5:
		sum, err := o.contentMD5()
		if err != nil {
			return response, err
		}
		md5Base64 = base64.StdEncoding.EncodeToString(sum)
	case checksumSHA256:
		if sha256Hex, err = o.payloadSHA256(); err != nil {
			return response, err
		}
	}
	var header http.Header
	ctx = context.WithValue(ctx, responseHeaderKey{}, &header)
	response.UploadInfo, err = minio.Core{Client: s.client}.PutObject(ctx, s.bucket, s.prefix+o.Key, o.reader(), o.Size, md5Base64, sha256Hex, opts)
	response.encryption = header.Get("X-Amz-Server-Side-Encryption")
	return response, err
}

// parseSSE parses S3Options.SSE.
func parseSSE(sse string) (encrypt.ServerSide, error) {
	kind, key, hasKey := strings.Cut(sse, ":")
	switch {
	case sse == "":
		return nil, nil //nolint:nilnil // no encryption
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

// Stat returns size, checksum and user metadata of an object.
func (s *s3Store) Stat(ctx context.Context, key string) (Stored, error) {
	t := callOptionsOf(ctx)
	m, err := s.head(WithCallOptions(ctx, t), key)
	if err != nil {
		return Stored{}, s.fail("stat", key, t, err)
	}
	return m, nil
}

// Open reads an object. One request returns body and metadata.
func (s *s3Store) Open(ctx context.Context, key string) (io.ReadCloser, Stored, error) {
	t := callOptionsOf(ctx)
	body, info, _, err := minio.Core{Client: s.client}.GetObject(WithCallOptions(ctx, t), s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return nil, Stored{}, s.fail("open", key, t, err)
	}
	return &objectBody{body, func(err error) error { return s.fail("open", key, t, err) }}, s.stored(key, info), nil
}

// stored converts the headers of an answer.
func (s *s3Store) stored(key string, info minio.ObjectInfo) Stored {
	stored := Stored{Metadata: fromHeaders(info.UserMetadata), Size: info.Size, CRC32C: info.ChecksumCRC32C, ETag: info.ETag, Modified: info.LastModified}
	if strings.Contains(stored.CRC32C, "-") { // a checksum of parts
		stored.CRC32C = ""
	}
	if stored.SHA256 == "" { // the storage, or a copy, dropped the metadata
		stored.Metadata = metadataFromKey(key)
	}
	stored.Doubtful = stored.SHA256 == "" || s.proofFailed.Load()
	return stored
}
