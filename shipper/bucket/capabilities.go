package bucket

import "github.com/minio/minio-go/v7"

// checksum is the kind of checksum by which the storage verifies an object.
type checksum int

// Checksums, strongest first.
const (
	checksumCRC32C checksum = iota
	checksumMD5
	// checksumSHA256 is the SHA-256 of the payload, which the signature covers. The body
	// is then one signed chunk, since some storages accept no other form over http.
	checksumSHA256
	checksumOff
)

var checksumNames = [...]string{"crc32c", "md5", "sha256", "none"} //nolint:gochecknoglobals // a constant table

func (c checksum) String() string { return checksumNames[c] }

// candidates returns the checksums to try for a value of shipper.s3.checksum.
func candidates(setting string) []checksum {
	for c, name := range checksumNames {
		if setting == name || setting == "off" && checksum(c) == checksumOff {
			return []checksum{checksum(c)}
		}
	}
	return []checksum{checksumCRC32C, checksumMD5, checksumSHA256, checksumOff}
}

// isChecksumMismatch reports whether the storage found a checksum to be wrong.
func isChecksumMismatch(r minio.ErrorResponse) bool {
	switch r.Code {
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		return true
	}
	return false
}

// capabilities are the features of the storage that the probe found.
type capabilities struct {
	conditional  bool // If-None-Match: * prevents a put from replacing an object
	checksum     checksum
	unverified   bool   // the storage accepts no other checksum and does not verify this one
	encryption   string // that the storage's answers confirm; empty: none
	classTrouble string
	trusted      bool // a status of 200 counts as proof
}

func (c *capabilities) checksumName() string {
	if c.unverified {
		return checksumOff.String()
	}
	return c.checksum.String()
}

func (c *capabilities) encryptionName() string {
	if c.encryption == "" {
		return "none"
	}
	return c.encryption
}

// Capabilities are the features of a storage that the probe found, as text for people and
// metrics. They are empty before the first probe.
type Capabilities struct {
	ConditionalPut string // "yes" or "no"
	Checksum       string // that the storage verifies: "crc32c", "md5", "sha256" or "none"
	Encryption     string // that the storage confirms, such as "AES256" or "aws:kms", or "none"
}

// Capabilities returns the result of the last probe that succeeded.
func (s *s3Store) Capabilities() Capabilities {
	last := s.lastFound.Load()
	if last == nil {
		return Capabilities{}
	}
	conditional := "no"
	if last.conditional {
		conditional = "yes"
	}
	return Capabilities{conditional, last.checksumName(), last.encryptionName()}
}
