package config

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
)

// errCredential means that a value contains a credential and must not be printed.
var errCredential = errors.New("contains a user name or password, but its value is printed and logged: credentials belong in shipper.s3.credentials_file")

var userOfURL = regexp.MustCompile(`://.*@`)

// withoutCredentials removes the user and password of a URL from a text. The value of any
// key may be such a URL.
func withoutCredentials(text string) string { return userOfURL.ReplaceAllString(text, "://…@") }

// endpoint is the URL of a storage, or host[:port] for HTTPS.
func endpoint(field func(*Config) *string) value {
	return value{kind: "a URL", set: func(c *Config, s string) error {
		*field(c) = s
		return checkEndpoint(s)
	}}
}

func checkEndpoint(s string) error {
	if s == "" {
		return nil
	}
	scheme, authority := cutScheme(s)
	switch {
	case strings.Contains(s, "@"):
		return errCredential
	case strings.ContainsFunc(s, unicode.IsSpace):
		return errors.New("contains a blank: remove it")
	case scheme != "http" && scheme != "https":
		return errors.New("has a scheme other than http and https: write http://host:port or https://host")
	case strings.ContainsAny(authority, "/?#"):
		return errors.New("has something behind the host and port: bucket and prefix belong in shipper.destination, s3://bucket/prefix")
	}
	host := authority
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		host = authority[:i]
		if _, port, ok := cutPort(authority); !ok || port == 0 {
			return errors.New("has no port from 1 to 65535 behind the colon")
		}
	}
	if _, err := parseHost(host); err != nil {
		return errors.New("names no host: write http://host:port or https://host")
	}
	return nil
}

// cutScheme splits an endpoint into scheme and authority. It removes a slash at the end.
// The scheme is https if there is none.
func cutScheme(s string) (scheme, authority string) {
	scheme, authority, found := strings.Cut(s, "://")
	if !found {
		scheme, authority = "https", s
	}
	return strings.ToLower(scheme), strings.TrimSuffix(authority, "/")
}

// isPlaintext reports whether requests to an endpoint leave the host unencrypted.
func isPlaintext(endpoint string) bool {
	scheme, authority := cutScheme(endpoint)
	host := authority
	if name, _, ok := cutPort(authority); ok {
		host = name
	}
	name, _ := parseHost(host)
	ip, err := netip.ParseAddr(name)
	return scheme == "http" && name != "localhost" && !strings.HasSuffix(name, ".localhost") && (err != nil || !ip.IsLoopback())
}
