package bucket

import "github.com/minio/minio-go/v7"

// checksum is what the storage is asked to verify an object by.
type checksum int

// Checksums, strongest first.
const (
	checksumCRC32C checksum = iota
	checksumMD5
	// checksumSHA256 is that of the payload, which the signature covers. The body is one
	// signed chunk then: some storages know no others over http.
	checksumSHA256
	checksumOff
)

var checksumNames = [...]string{"crc32c", "md5", "sha256", "none"} //nolint:gochecknoglobals // a constant table

func (c checksum) String() string { return checksumNames[c] }

// candidates are the checksums to try, for a setting.
func candidates(setting string) []checksum {
	for c, name := range checksumNames {
		if setting == name || setting == "off" && checksum(c) == checksumOff {
			return []checksum{checksum(c)}
		}
	}
	return []checksum{checksumCRC32C, checksumMD5, checksumSHA256, checksumOff}
}

// mismatches reports whether the storage says that a checksum is wrong.
func mismatches(r minio.ErrorResponse) bool {
	switch r.Code {
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		return true
	}
	return false
}

// capabilities are what the storage was found to do.
type capabilities struct {
	conditional  bool // If-None-Match: * keeps a put from replacing
	checksum     checksum
	unverified   bool   // no other is accepted, and this one is not verified
	encryption   string // that its answers confirm; empty: none
	classTrouble string
	trusted      bool // an answer of 200 is enough
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

// Capabilities are what a storage was found to do, in words for people and metrics. They
// are empty until something was found.
type Capabilities struct {
	ConditionalPut string // "yes" or "no"
	Checksum       string // that it verifies: "crc32c", "md5", "sha256" or "none"
	Encryption     string // that it confirms, such as "AES256" or "aws:kms", or "none"
}

// Capabilities returns what was found last.
func (s *s3Store) Capabilities() Capabilities {
	can := s.found.Load()
	if can == nil {
		return Capabilities{}
	}
	conditional := "no"
	if can.conditional {
		conditional = "yes"
	}
	return Capabilities{conditional, can.checksumName(), can.encryptionName()}
}
