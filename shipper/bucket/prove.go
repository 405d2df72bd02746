package bucket

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the ETag of S3 is an MD5
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// proofError means that a put was answered with success, but the object is not stored, or
// not proven to be.
type proofError struct {
	kind, hint string
	permanent  bool
	err        error
}

func (e *proofError) Error() string { return e.err.Error() }
func (e *proofError) Unwrap() error { return e.err }

func unprovenf(hint, format string, args ...any) *proofError {
	return &proofError{kind: Unproven, hint: hint, err: fmt.Errorf(format, args...)}
}

const proofHint = "the storage returned no proof of what it stored, and this key may not read it: grant s3:GetObject on this bucket and prefix, or set shipper.s3.proof: off; docs/storages.md, Permissions"

// prove returns nil after the storage has proven that it has the object's bytes: its
// answer contains their checksum, or its ETag is their MD5 (except with KMS), or a look
// or a read confirms them. A status of 200 proves nothing, unless capable.trusted.
func (s *s3Store) prove(ctx context.Context, o *Object, response putResponse, capable *capabilities) error {
	switch {
	case response.ChecksumCRC32C == o.checksum():
		return nil
	case capable.checksum == checksumCRC32C && response.ChecksumCRC32C != "":
		return &proofError{kind: "BadDigest", hint: changedInTransitHint, err: fmt.Errorf("the storage says that the object has the CRC-32C %.20q, not %s", response.ChecksumCRC32C, o.checksum())}
	case capable.trusted:
		return nil
	}
	if etag, err := hex.DecodeString(response.ETag); err == nil && len(etag) == md5.Size {
		if sum, err := o.contentMD5(); err != nil || bytes.Equal(etag, sum) {
			return err
		}
	}
	stored, err := s.head(ctx, o.Key)
	switch resp := minio.ToErrorResponse(err); {
	case err == nil:
	case resp.StatusCode == http.StatusForbidden:
		return &proofError{kind: Unproven, hint: proofHint, permanent: true, err: fmt.Errorf("look up the object that was put: %w", err)}
	case resp.StatusCode == http.StatusNotFound:
		return unprovenf("the storage, or a server that answers in its place, keeps nothing", "the storage answered a put with success and does not have the object: %w", err)
	default:
		return fmt.Errorf("look up the object that was put: %w", err) // wrapped, so that it changes no capability
	}
	switch {
	case stored.Size >= 0 && stored.Size != o.Size:
		return unprovenf("the storage does not keep objects whole", "the storage answered a put with success and has %d of %d bytes", stored.Size, o.Size)
	case stored.CRC32C != "" && stored.CRC32C != o.checksum():
		return &proofError{kind: "BadDigest", hint: changedInTransitHint, err: fmt.Errorf("the storage's object has the CRC-32C %.20q, not %s", stored.CRC32C, o.checksum())}
	case stored.CRC32C != "", stored.Size == o.Size && o.SHA256 != "" && stored.SHA256 == o.SHA256:
		return nil
	}
	return s.readBack(ctx, o)
}

// head returns an object's size, checksum and metadata.
func (s *s3Store) head(ctx context.Context, key string) (Stored, error) {
	info, err := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{Checksum: true})
	if err != nil {
		return Stored{}, err
	}
	return s.stored(key, info), nil
}

// readBack compares size and CRC-32C of an object with the bytes that the storage
// returns.
func (s *s3Store) readBack(ctx context.Context, o *Object) error {
	body, _, _, err := minio.Core{Client: s.client}.GetObject(ctx, s.bucket, s.prefix+o.Key, minio.GetObjectOptions{})
	if err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusForbidden {
			hint := proofHint
			if s.trustStatus {
				hint = "shipper.s3.proof: off still reads " + o.Key + " back once: grant s3:GetObject on it; docs/storages.md, Permissions"
			}
			return &proofError{kind: Unproven, hint: hint, permanent: true, err: fmt.Errorf("read back %s: %w", o.Key, err)}
		}
		return unprovenf("", "read back %s: %w", o.Key, err)
	}
	defer body.Close()
	sum := crc32.New(castagnoli)
	n, err := io.Copy(sum, io.LimitReader(body, o.Size+1))
	if err != nil {
		return fmt.Errorf("read back %s: %w", o.Key, err)
	}
	if n != o.Size || sum.Sum32() != o.CRC32C {
		return unprovenf("another storage, or something else, answers at shipper.s3.endpoint", "read back %s: it differs from the object that was put", o.Key)
	}
	return nil
}
