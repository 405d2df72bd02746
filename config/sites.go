package config

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
)

var (
	hostName   = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
	schemeName = regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`)
)

var errOrigin = errors.New(`is not an origin as browsers send it: write https://app.example or http://localhost:8080 (lower case, no path, no default port), file://, or "null"`)

// origins is a list of origins as browsers send them in the header Origin (RFC 6454,
// section 6.1).
func origins(field func(*Config) *[]string) value {
	return value{kind: "a list of origins", list: true, set: func(c *Config, s string) (err error) {
		*field(c), err = parseParts(s, func(part string) (string, error) {
			if !isOrigin(part) {
				return "", errOrigin
			}
			return part, nil
		})
		return err
	}}
}

func isOrigin(s string) bool {
	if s == "null" || s == "file://" {
		return true
	}
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok || !schemeName.MatchString(scheme) {
		return false
	}
	host := authority
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		var port uint16
		if _, port, ok = cutPort(authority); !ok || port == 0 || authority[i+1] == '0' ||
			scheme == "http" && port == 80 || scheme == "https" && port == 443 {
			return false
		}
		host = authority[:i]
	}
	name, err := parseHost(host)
	return err == nil && (name == host || "["+name+"]" == host)
}

func hosts(field func(*Config) *[]string) value {
	return value{kind: "a list of names and addresses", list: true, set: func(c *Config, s string) (err error) {
		*field(c), err = parseParts(s, parseHost)
		return err
	}}
}

var errHost = errors.New("is not a host name or an address: write usages.example, 192.0.2.1 or 2001:db8::1, without scheme, port or path")

// parseHost returns a host name in lower case, or an IP address without brackets.
func parseHost(s string) (string, error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if ip, err := netip.ParseAddr(bare); err == nil {
		if ip.Zone() != "" || bare != s && "["+bare+"]" != s || bare != s && ip.Is4() {
			return "", errHost
		}
		return ip.String(), nil
	}
	name := strings.TrimSuffix(strings.ToLower(s), ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	if len(name) > 253 || !hostName.MatchString(name) || strings.Trim(last, "0123456789") == "" {
		return "", errHost
	}
	return name, nil
}
