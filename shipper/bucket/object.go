package bucket

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what the ETag of S3 is
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// Window is what an encoder of objects may look back over, and what a reader must hold.
const Window = 1 << 20

// maxWindow is what readers here accept of what others wrote.
const maxWindow = 8 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant table

// Object is what a Store is to put: lines in exactly one zstd frame (RFC 8878) with
// its content checksum, or a small JSON document.
type Object struct {
	Key    string // without the destination's prefix
	Body   io.ReaderAt
	Size   int64 // bytes of Body that belong to the object
	CRC32C uint32
	md5    []byte // once it was asked for
	wrong  bool   // the checksums are of other bytes
	// Replace lets Put replace what is under the key, if its ETag is still Replaces, or
	// that is AnyVersion.
	Replace  bool
	Replaces string
	// Latest is of what only the newest counts of: Put replaces what is under the key,
	// whatever it is, in the bucket's default storage class.
	Latest bool
	Sent   bool // by this process, and confirmed; otherwise it may have been there before
	Metadata
}

// AnyVersion of an object may be replaced.
const AnyVersion = "*"

// NewObject makes an object of a few bytes, without metadata.
func NewObject(key string, content []byte) *Object {
	return &Object{Key: key, Body: bytes.NewReader(content), Size: int64(len(content)), CRC32C: crc32.Checksum(content, castagnoli)}
}

// Beside is the object under the name that it gets where its own holds other lines.
func (o *Object) Beside() *Object {
	other := *o
	other.Key = besideKey(o.Key, o.SHA256)
	return &other
}

// withWrongChecksums is the same object, sent with checksums of other bytes.
func (o *Object) withWrongChecksums() *Object {
	other := *o
	other.wrong = true
	return &other
}

// contentMD5 is the MD5 of the object, which few storages need.
func (o *Object) contentMD5() (sum []byte, err error) {
	if o.md5 == nil || o.wrong {
		o.md5, err = o.digest(md5.New()) //nolint:gosec // see above
	}
	return o.md5, err
}

// payloadSHA256 is the SHA-256 of the object as it is sent, as hex.
func (o *Object) payloadSHA256() (string, error) {
	sum, err := o.digest(sha256.New())
	return hex.EncodeToString(sum), err
}

// digest reads the object, which must still be what was compressed: a digest of other
// bytes would confirm those.
func (o *Object) digest(of hash.Hash) (sum []byte, err error) {
	crc := crc32.New(castagnoli)
	n, err := io.Copy(io.MultiWriter(of, crc), o.reader())
	if err != nil {
		return nil, err
	}
	if err := o.check(n, crc.Sum32()); err != nil {
		return nil, &proofError{kind: "BadDigest", hint: changedOnTheWay, err: err}
	}
	if o.wrong {
		of.Write([]byte{0})
	}
	return of.Sum(nil), nil
}

// check returns an error unless n bytes with that CRC-32C are the object's: the spool's
// disk may return others than were written.
func (o *Object) check(n int64, crc uint32) error {
	if n == o.Size && crc == o.CRC32C {
		return nil
	}
	return fmt.Errorf("%d bytes were read back from the spool, of %d, or they have changed", n, o.Size)
}

// reader reads the object from its beginning.
func (o *Object) reader() *io.SectionReader { return io.NewSectionReader(o.Body, 0, o.Size) }

// checksum is the object's CRC-32C as S3 writes it.
func (o *Object) checksum() string {
	sum := o.CRC32C
	if o.wrong {
		sum = ^sum
	}
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}
