package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// prefixMarks are the characters that a prefix may contain besides letters and digits.
const prefixMarks = "!'()*-./=_"

// maxPrefix is the max length of a prefix in bytes. A key has at most 1,024 bytes, of which
// up to 200 follow the prefix.
const maxPrefix = 800

var (
	bucketName  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*[a-z0-9]$`)
	lonelyDot   = regexp.MustCompile(`\.[.-]|-\.`)
	likeAddress = regexp.MustCompile(`^(\d+\.){3}\d+$`)
)

// destination is file:///path or s3://bucket/prefix.
func destination(field func(*Config) *string) value {
	return value{kind: "a URL", set: func(c *Config, s string) error {
		*field(c) = s
		return checkDestination(s)
	}}
}

// checkDestination returns why a destination is invalid. The error does not contain a
// user or password.
func checkDestination(s string) error {
	if s == "" {
		return nil
	}
	if folder, ok := strings.CutPrefix(s, "file://"); ok && strings.HasPrefix(folder, "/") {
		return checkFolder(folder)
	}
	rest, ok := strings.CutPrefix(s, "s3://")
	if !ok {
		return errors.New("is neither file:///path nor s3://bucket/prefix")
	}
	name, prefix, _ := strings.Cut(rest, "/")
	switch {
	case strings.Contains(name, "@"):
		return errCredential
	case len(name) < 3:
		return fmt.Errorf("names the bucket %q, which is too short: a name has at least 3 characters", name)
	case len(name) > 63:
		return fmt.Errorf("names the bucket %q, which is too long: a name has at most 63 characters", name)
	case !bucketName.MatchString(name):
		return fmt.Errorf("names the bucket %q: a name has lower-case letters, digits, dots and hyphens, and begins and ends with a letter or digit", name)
	case lonelyDot.MatchString(name):
		return fmt.Errorf("names the bucket %q: a dot in a name has a letter or digit on both sides", name)
	case likeAddress.MatchString(name):
		return fmt.Errorf("names the bucket %q, which looks like an IP address: write the address in shipper.s3.endpoint", name)
	case prefix == "":
		return nil
	case len(prefix) > maxPrefix:
		return fmt.Errorf("has a prefix of more than %d characters", maxPrefix)
	}
	for component := range strings.SplitSeq(strings.TrimSuffix(prefix, "/"), "/") {
		switch component {
		case "":
			return errors.New("has a prefix with an empty component: write one slash between two components, and one behind the bucket")
		case ".", "..":
			return fmt.Errorf("has a prefix with the component %q, which clients and proxies resolve: leave it out", component)
		}
	}
	if i := strings.IndexFunc(prefix, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(prefixMarks, r)
	}); i >= 0 {
		return fmt.Errorf("has a prefix with %q: letters of ASCII, digits and %s are allowed", []rune(prefix[i:])[0], prefixMarks)
	}
	return nil
}

// checkFolder returns why the path of a file URL is invalid.
func checkFolder(escaped string) error {
	u, err := url.Parse("file://" + escaped)
	switch {
	case err != nil:
		return errors.New("has a % that is not followed by two hexadecimal digits, or a control character: write %25 for %")
	case strings.ContainsAny(escaped, "?#"):
		return errors.New("has a ? or # in the path: write %3F or %23")
	case strings.HasPrefix(u.Path, "/~"):
		return errTilde
	case hasVariable(strings.TrimPrefix(u.Path, "/")):
		return errVariable
	case strings.ContainsRune(u.Path, 0):
		return errors.New("contains %00, which no path can contain")
	case filepath.Clean(u.Path) == "/":
		return errors.New("names no folder: write file:///path")
	}
	return nil
}
