package origin

import (
	"bytes"
	"net/netip"
	"strings"
)

// host is a DNS name or an IP address.
type host struct {
	name []byte // without the trailing dot; compared without regard to case; empty if addr is valid
	addr netip.Addr
}

func (h host) equal(o host) bool {
	if h.addr.IsValid() || o.addr.IsValid() {
		return h.addr == o.addr
	}
	return bytes.EqualFold(h.name, o.name)
}

func (h host) isLoopback() bool {
	if h.addr.IsValid() {
		return h.addr.Unmap().IsLoopback()
	}
	const local = "localhost" // and its subdomains (RFC 6761, section 6.3)
	rest := len(h.name) - len(local)
	return rest >= 0 && bytes.EqualFold(h.name[rest:], []byte(local)) && (rest == 0 || h.name[rest-1] == '.')
}

// IsLoopback reports whether an authority, with or without a port, is localhost, a
// subdomain of it, or a loopback address.
func IsLoopback(authority []byte) bool {
	h, ok := parseAuthority(authority)
	return ok && h.isLoopback()
}

// Authority returns the host and port that a request names: in an absolute target, or else
// in the Host header (RFC 9112, section 3.2.2). For any other form of target the result is
// not a valid authority.
func Authority(target, hostHeader []byte) []byte {
	if len(target) == 0 || target[0] == '/' {
		return hostHeader
	}
	_, rest, _ := bytes.Cut(target, []byte("://"))
	if end := bytes.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	if len(rest) == 0 {
		return target
	}
	return rest
}

// originHost returns the host of a serialized origin (RFC 6454, section 6.1).
func originHost(origin []byte) (h host, ok bool) {
	scheme, authority, ok := bytes.Cut(origin, []byte("://"))
	if !ok || !bytes.EqualFold(scheme, []byte("http")) && !bytes.EqualFold(scheme, []byte("https")) {
		return host{}, false
	}
	return parseAuthority(authority)
}

// parseAuthority parses a host with an optional port. It rejects user names, zones and
// escapes. IPv6 addresses must be in brackets.
func parseAuthority(b []byte) (h host, ok bool) {
	end := bytes.IndexByte(b, ':')
	if len(b) > 0 && b[0] == '[' {
		end = bytes.IndexByte(b, ']') + 1
		if end == 0 {
			return host{}, false
		}
		if end == len(b) {
			end = -1
		}
	}
	if end >= 0 {
		for i, c := range b[end:] {
			if i == 0 && c != ':' || i > 0 && (c < '0' || c > '9') {
				return host{}, false
			}
		}
		b = b[:end]
	}
	return parseHost(b)
}

// parseName parses a configured host. IPv6 addresses may lack brackets.
func parseName(s string) (h host, ok bool) {
	if strings.Contains(s, ":") && !strings.HasPrefix(s, "[") {
		s = "[" + s + "]"
	}
	return parseHost([]byte(s))
}

const maxName = 253 // bytes of a name (RFC 1035, section 3.1)

func parseHost(b []byte) (h host, ok bool) {
	if len(b) > 2 && b[0] == '[' && b[len(b)-1] == ']' {
		if string(b) == "[::1]" {
			return host{addr: netip.IPv6Loopback()}, true
		}
		h.addr, _ = netip.ParseAddr(string(b[1 : len(b)-1]))
		return h, h.addr.Is6() && h.addr.Zone() == ""
	}
	if n := len(b); n > 1 && b[n-1] == '.' {
		b = b[:n-1]
	}
	if len(b) == 0 || len(b) > maxName {
		return host{}, false
	}
	dot := true // the previous character is a dot; true at the start, to reject a leading dot
	for _, c := range b {
		switch {
		case c == '.' && dot:
			return host{}, false
		case c == '.', c == '-', c == '_', c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z':
			dot = c == '.'
		default:
			return host{}, false
		}
	}
	if last := b[bytes.LastIndexByte(b, '.')+1:]; len(last) > 0 && isNumber(last) {
		h.addr, ok = parseIPv4(b) // a name whose last label is a number must be an IPv4 address
		return h, ok
	}
	return host{name: b}, !dot
}

func isNumber(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// parseIPv4 accepts the same addresses as netip.ParseAddr, without allocating.
func parseIPv4(b []byte) (netip.Addr, bool) {
	var four [4]byte
	for i := range four {
		part, rest, more := bytes.Cut(b, []byte{'.'})
		if len(part) == 0 || len(part) > 3 || len(part) > 1 && part[0] == '0' || !isNumber(part) || more != (i < 3) {
			return netip.Addr{}, false
		}
		n := 0
		for _, c := range part {
			n = 10*n + int(c-'0')
		}
		if n > 255 {
			return netip.Addr{}, false
		}
		four[i], b = byte(n), rest
	}
	return netip.AddrFrom4(four), true
}
