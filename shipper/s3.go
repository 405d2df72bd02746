package shipper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Options tell how to reach an S3-compatible storage.
type S3Options struct {
	Endpoint        string // URL, or host[:port] for HTTPS; empty means AWS
	Region          string // empty: asked of the storage
	PathStyle       string // "auto", "on" or "off"
	CredentialsFile string // AWS shared credentials format; empty: AWS_* variables, then the instance's role
	CAFile          string // PEM, in addition to the system's
	Checksum        string // "auto", "crc32c", "md5" or "off"
	Logger          *slog.Logger
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
	bucket, prefix string
	log            *slog.Logger
	mayWeaken      bool         // the checksum, when the storage refuses it
	checksum       atomic.Int32 // in use
	unconditional  atomic.Bool  // the storage knows no If-None-Match
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
	transport, err := s3Transport(o.CAFile)
	if err != nil {
		return nil, err
	}
	lookup := map[string]minio.BucketLookupType{"on": minio.BucketLookupPath, "off": minio.BucketLookupDNS}[o.PathStyle]
	options := minio.Options{
		Creds:        s3Credentials(o.CredentialsFile),
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
	s := &s3Store{client: client, checksummed: checksummed, bucket: bucket, prefix: prefix, log: o.Logger}
	switch o.Checksum {
	case "md5":
		s.checksum.Store(checksumMD5)
	case "off":
		s.checksum.Store(checksumOff)
	case "auto", "":
		s.mayWeaken = true
	}
	return s, nil
}

func s3Credentials(file string) *credentials.Credentials {
	if file != "" {
		return credentials.NewFileAWSCredentials(file, "")
	}
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{},
		&credentials.IAM{Client: &http.Client{Timeout: 10 * time.Second}},
	})
}

func s3Transport(caFile string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   16,
		DisableCompression:    true, // objects come as they are
	}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("s3 CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("s3 CA file %s: holds no PEM certificate", caFile)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return t, nil
}

func (s *s3Store) String() string {
	return fmt.Sprintf("s3://%s/%s at %s", s.bucket, s.prefix, s.client.EndpointURL())
}

// Put sends the object in one request that the storage refuses if the key is
// taken. What the storage can't do is found out by doing it.
func (s *s3Store) Put(ctx context.Context, o *Object) error {
	for {
		if s.unconditional.Load() {
			if _, err := s.Stat(ctx, o.Key); !errors.Is(err, ErrNotFound) {
				return errOr(err, ErrExists)
			}
		}
		checksum := s.checksum.Load()
		err := s.put(ctx, o, checksum)
		if err == nil {
			return nil
		}
		switch resp := minio.ToErrorResponse(err); {
		case resp.StatusCode == http.StatusPreconditionFailed:
			return ErrExists
		case resp.StatusCode == http.StatusNotImplemented && s.unconditional.CompareAndSwap(false, true):
			s.log.Warn("the storage knows no conditional put: it is asked before each one", "destination", s.String())
		case refusesChecksum(resp) && s.mayWeaken && checksum < checksumOff && s.checksum.CompareAndSwap(checksum, checksum+1):
			s.log.Warn("the storage refuses this checksum: trying the next weaker one", "destination", s.String(),
				"refused", []string{"crc32c", "md5"}[checksum], "error", err)
		default:
			return s.fail("put", o.Key, err)
		}
	}
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// refusesChecksum tells a storage that does not know a checksum header from
// one that found the bytes to be wrong.
func refusesChecksum(r minio.ErrorResponse) bool {
	return r.StatusCode == http.StatusBadRequest && (r.Code == "InvalidArgument" || r.Code == "InvalidRequest") ||
		r.StatusCode == http.StatusNotImplemented
}

func (s *s3Store) put(ctx context.Context, o *Object, checksum int32) error {
	opts := minio.PutObjectOptions{
		ContentType:      contentType(o.Key),
		DisableMultipart: true,
		UserMetadata:     o.toHeaders(),
	}
	client := s.client
	switch checksum {
	case checksumCRC32C:
		client = s.checksummed
		opts.UserMetadata["x-amz-checksum-crc32c"] = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, o.CRC32C))
	case checksumMD5:
		opts.SendContentMd5 = true
	}
	if !s.unconditional.Load() {
		opts.SetMatchETagExcept("*")
	}
	_, err := client.PutObject(ctx, s.bucket, s.prefix+o.Key, o.reader(), o.Size, opts)
	return err
}

func contentType(key string) string {
	if strings.HasSuffix(key, ".json") {
		return "application/json"
	}
	return "application/zstd"
}

// toHeaders is the metadata as user metadata of S3.
func (m Metadata) toHeaders() map[string]string {
	return map[string]string{
		"Collectord-Format":    strconv.Itoa(m.Format),
		"Collectord-Node":      m.Node,
		"Collectord-Log-Id":    m.LogID,
		"Collectord-Run":       m.Run,
		"Collectord-First-Seq": strconv.FormatUint(m.FirstSeq, 10),
		"Collectord-Last-Seq":  strconv.FormatUint(m.LastSeq, 10),
		"Collectord-Records":   strconv.FormatUint(m.Records, 10),
		"Collectord-Raw-Bytes": strconv.FormatInt(m.RawBytes, 10),
		"Collectord-Sha256":    m.SHA256,
	}
}

// fromHeaders is the reverse of toHeaders; SHA256 stays empty unless all is there.
func fromHeaders(h map[string]string) (m Metadata) {
	var errs [5]error
	m.Format, errs[0] = strconv.Atoi(h["Collectord-Format"])
	m.FirstSeq, errs[1] = strconv.ParseUint(h["Collectord-First-Seq"], 10, 64)
	m.LastSeq, errs[2] = strconv.ParseUint(h["Collectord-Last-Seq"], 10, 64)
	m.Records, errs[3] = strconv.ParseUint(h["Collectord-Records"], 10, 64)
	m.RawBytes, errs[4] = strconv.ParseInt(h["Collectord-Raw-Bytes"], 10, 64)
	if errors.Join(errs[:]...) != nil {
		return Metadata{}
	}
	m.Node, m.LogID, m.Run, m.SHA256 = h["Collectord-Node"], h["Collectord-Log-Id"], h["Collectord-Run"], h["Collectord-Sha256"]
	return m
}

func (s *s3Store) Stat(ctx context.Context, key string) (Metadata, error) {
	info, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return Metadata{}, s.fail("stat", key, err)
	}
	return fromHeaders(info.UserMetadata), nil
}

func (s *s3Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	o, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if err == nil {
		_, err = o.Stat() // GetObject asks nothing by itself
	}
	if err != nil {
		return nil, s.fail("open", key, err)
	}
	return o, nil
}

func (s *s3Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
		for o := range s.client.ListObjectsIter(ctx, s.bucket, opts) {
			if o.Err != nil {
				yield("", s.fail("list", prefix, o.Err))
				return
			}
			if !yield(o.Key[len(s.prefix):], nil) {
				return
			}
		}
	}
}

// fail says what an error means for the shipper and for people.
func (s *s3Store) fail(op, key string, err error) error {
	resp := minio.ToErrorResponse(err)
	e := &StoreError{Op: op, Key: key, Kind: resp.Code, Err: err}
	var netErr net.Error
	var certErr *tls.CertificateVerificationError
	switch {
	case op != "put" && (resp.Code == minio.NoSuchKey || resp.StatusCode == http.StatusNotFound && resp.Code != minio.NoSuchBucket):
		return ErrNotFound
	case resp.Code == minio.NoSuchBucket:
		e.Permanent, e.Hint = true, "create the bucket "+s.bucket+", or correct shipper.destination"
	case resp.Code == "InvalidAccessKeyId", resp.Code == "SignatureDoesNotMatch":
		e.Permanent, e.Hint = true, "the access key or its secret is wrong: see shipper.s3.credentials_file"
	case resp.Code == "RequestTimeTooSkewed":
		e.Permanent, e.Hint = true, "the clocks of this host and the storage differ too much"
	case resp.Code == "AuthorizationHeaderMalformed", resp.Code == "PermanentRedirect":
		e.Permanent, e.Hint = true, "the bucket is in another region: see shipper.s3.region"
	case resp.StatusCode == http.StatusForbidden:
		e.Permanent, e.Hint = true, "the key needs s3:PutObject and s3:GetObject on this bucket and prefix"
	case errors.As(err, &certErr):
		e.Kind, e.Permanent, e.Hint = "tls", true, "the storage's certificate is not trusted: see shipper.s3.ca_file"
	case errors.As(err, &netErr) && netErr.Timeout():
		e.Kind = "timeout"
	case errors.As(err, &netErr):
		e.Kind = "network"
	}
	if e.Kind == "" {
		e.Kind = "other"
	}
	return e
}
