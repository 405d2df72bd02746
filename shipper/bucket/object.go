package bucket

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what the ETag of S3 is
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
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
	MD5    [md5.Size]byte
	wrong  bool // payloadSHA256, too
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
	return &Object{Key: key, Body: bytes.NewReader(content), Size: int64(len(content)), CRC32C: crc32.Checksum(content, castagnoli), MD5: md5.Sum(content)} //nolint:gosec // see above
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
	other.CRC32C = ^o.CRC32C
	other.MD5[0] ^= 1
	other.wrong = true
	return &other
}

// payloadSHA256 is the SHA-256 of the object as it is sent, as hex.
func (o *Object) payloadSHA256() (string, error) {
	sum := sha256.New()
	_, err := io.Copy(sum, o.reader())
	if o.wrong {
		sum.Write([]byte{0})
	}
	return hex.EncodeToString(sum.Sum(nil)), err
}

// reader reads the object from its beginning.
func (o *Object) reader() *io.SectionReader { return io.NewSectionReader(o.Body, 0, o.Size) }

// checksum is the object's CRC-32C as S3 writes it.
func (o *Object) checksum() string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, o.CRC32C))
}
