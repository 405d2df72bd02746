package bucket

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the ETag of S3 is an MD5
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// Window is the window size of an encoder of objects: the bytes that a reader must keep
// in memory.
const Window = 1 << 20

// maxWindow is the max window size that readers here accept, since other tools may write
// objects.
const maxWindow = 8 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant table

// Object is the input of Store.Put: lines in exactly one zstd frame (RFC 8878) with its
// content checksum, or a small JSON document.
type Object struct {
	Key            string // without the destination's prefix
	Body           io.ReaderAt
	Size           int64 // bytes of Body that belong to the object
	CRC32C         uint32
	md5            []byte // computed on demand
	wrongChecksums bool   // the checksums are deliberately those of other bytes
	// Replace makes Put replace the stored object if its ETag is Replaces, or if Replaces
	// is AnyVersion.
	Replace  bool
	Replaces string
	// Latest marks an object that counts only in its latest version. Put replaces any object
	// under its key, and uses the bucket's default storage class.
	Latest bool
	Sent   bool // this process sent it, and the storage confirmed it; otherwise it may be older
	Metadata
}

// AnyVersion is a value of Object.Replaces: Put replaces any version.
const AnyVersion = "*"

// NewObject makes a small object without metadata.
func NewObject(key string, content []byte) *Object {
	return &Object{Key: key, Body: bytes.NewReader(content), Size: int64(len(content)), CRC32C: crc32.Checksum(content, castagnoli)}
}

// Beside returns the object with the key that it gets if other lines have its own key.
func (o *Object) Beside() *Object {
	other := *o
	other.Key = besideKey(o.Key, o.SHA256)
	return &other
}

// withWrongChecksums returns the same object with checksums of other bytes.
func (o *Object) withWrongChecksums() *Object {
	other := *o
	other.wrongChecksums = true
	return &other
}

// contentMD5 returns the MD5 of the object. Few storages need it, so it is computed on
// demand.
func (o *Object) contentMD5() (sum []byte, err error) {
	if o.md5 == nil || o.wrongChecksums {
		o.md5, err = o.digest(md5.New()) //nolint:gosec // see above
	}
	return o.md5, err
}

// payloadSHA256 returns the SHA-256 of the object's bytes, as hex.
func (o *Object) payloadSHA256() (string, error) {
	sum, err := o.digest(sha256.New())
	return hex.EncodeToString(sum), err
}

// digest hashes the object and checks its CRC-32C: a digest of changed bytes would
// confirm them.
func (o *Object) digest(of hash.Hash) (sum []byte, err error) {
	crc := crc32.New(castagnoli)
	n, err := io.Copy(io.MultiWriter(of, crc), o.reader())
	if err != nil {
		return nil, err
	}
	if err := o.check(n, crc.Sum32()); err != nil {
		return nil, &proofError{kind: "BadDigest", hint: changedInTransitHint, err: err}
	}
	if o.wrongChecksums {
		of.Write([]byte{0})
	}
	return of.Sum(nil), nil
}

// check returns an error unless n and crc match the object: the spool's disk may return
// other bytes than were written.
func (o *Object) check(n int64, crc uint32) error {
	if n == o.Size && crc == o.CRC32C {
		return nil
	}
	return fmt.Errorf("the spool returned %d of %d bytes, or changed bytes", n, o.Size)
}

func (o *Object) reader() *io.SectionReader { return io.NewSectionReader(o.Body, 0, o.Size) }

// checksum returns the object's CRC-32C in base64, as in S3.
func (o *Object) checksum() string {
	sum := o.CRC32C
	if o.wrongChecksums {
		sum = ^sum
	}
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}
