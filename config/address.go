package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Address is an address to listen on. It is of one family: 0.0.0.0 is IPv4 only and [::]
// is IPv6 only, whatever net.ipv6.bindv6only is.
type Address struct {
	Network string         // "tcp", "udp" or "unix"
	Path    string         // of a unix socket
	IP      netip.AddrPort // otherwise

	// Name is the entry of the list, such as localhost:3000 or :3000, if the entry stands
	// for an address of each family that the host has. Name is empty if the entry is the
	// address itself; the host must then have that address.
	Name string
}

func (a Address) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Path
	}
	return a.IP.String()
}

// local reports whether only this host can reach the address.
func (a Address) local() bool { return a.Network == "unix" || a.IP.Addr().IsLoopback() }

// entry returns the address as the list contains it.
func (a Address) entry() string {
	if a.Name != "" {
		return a.Name
	}
	return a.String()
}

// Entries groups the addresses of a list by entry. An entry such as localhost:3000 stands
// for an address of each family.
func Entries(all []Address) (entries [][]Address) {
	for i, a := range all {
		if n := len(entries); n > 0 && a.Name != "" && a.Name == all[i-1].Name && a.IP != entries[n-1][0].IP {
			entries[n-1] = append(entries[n-1], a)
		} else {
			entries = append(entries, []Address{a})
		}
	}
	return entries
}

// overlaps reports whether two addresses can't both be bound.
func (a Address) overlaps(b Address) bool {
	if a.Network != b.Network {
		return false
	}
	if a.Network == "unix" {
		return filepath.Clean(a.Path) == filepath.Clean(b.Path)
	}
	x, y := a.IP.Addr(), b.IP.Addr()
	return a.IP.Port() == b.IP.Port() && a.IP.Port() != 0 && x.Is4() == y.Is4() && (x == y || x.IsUnspecified() || y.IsUnspecified())
}

// checkOverlaps reports addresses that can't both be bound. The kernel's error "address
// already in use" does not show that this program itself uses the address.
func (c *Config) checkOverlaps(mistake func(key, reason string)) {
	type listed struct {
		key string
		Address
	}
	var before []listed
	for _, list := range []struct {
		key string
		all []Address
	}{{"http.listen", c.HTTP.Listen}, {"udp.listen", c.UDP.Listen}, {"admin.listen", c.Admin.Listen}} {
		for _, a := range list.all {
			if i := slices.IndexFunc(before, func(b listed) bool { return a.overlaps(b.Address) }); i >= 0 {
				b := before[i]
				mistake(list.key, fmt.Sprintf("%s and %s in %s can't both be bound (%s, %s): remove one of them, or change its port", a.entry(), b.entry(), b.key, a, b))
				break // one mistake per list, because localhost given twice overlaps in both families
			}
			before = append(before, listed{list.key, a})
		}
	}
}

// ipv6OnlyWarnings warns of [::] without an IPv4 wildcard beside it, because other
// programs take [::] for both families.
func (c *Config) ipv6OnlyWarnings() (warnings []string) {
	for _, list := range []struct {
		key string
		all []Address
	}{{"http.listen", c.HTTP.Listen}, {"udp.listen", c.UDP.Listen}, {"admin.listen", c.Admin.Listen}} {
		var alone []string
		for _, a := range list.all {
			if a.Network != "unix" && a.IP.Addr() == netip.IPv6Unspecified() && !slices.ContainsFunc(list.all, func(b Address) bool {
				return b.IP == netip.AddrPortFrom(netip.IPv4Unspecified(), a.IP.Port())
			}) {
				alone = append(alone, a.String())
			}
		}
		if len(alone) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s %s is IPv6 only, and IPv4 clients are refused: write :port in place of [::]:port for both families", list.key, strings.Join(alone, ", ")))
		}
	}
	return warnings
}

var errListen = errors.New("is not an address such as localhost:3000, 0.0.0.0:3000, [::]:3000, :3000 (IPv4 and IPv6), or off")

func addresses(network string, field func(*Config) *[]Address) value {
	return value{kind: "a list of addresses, or off", list: true, set: func(c *Config, s string) error {
		*field(c) = nil
		if s == "off" {
			return nil
		}
		if s == "" {
			return errListen
		}
		lists, err := parseParts(s, func(part string) ([]Address, error) { return parseAddress(part, network) })
		*field(c) = slices.Concat(lists...)
		return err
	}}
}

func parseAddress(s, network string) ([]Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok && network == "tcp" {
		if !filepath.IsAbs(path) || len(path) > 107 || strings.ContainsRune(path, 0) { // the size of sun_path in unix(7)
			return nil, errors.New("names a unix socket without an absolute path of at most 107 bytes")
		}
		return []Address{{Network: "unix", Path: path}}, nil
	}
	host, port, ok := cutPort(s)
	if !ok {
		return nil, errListen
	}
	var both []netip.Addr
	switch host {
	case "localhost":
		both = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	case "", "*":
		both = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	default:
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return nil, errListen
		}
		if ip.Is6() && ip.Zone() == "" && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast()) {
			return nil, errors.New("is an address that each interface has: add the interface, as in [fe80::1%eth0]:3000")
		}
		// The kernel treats ::ffff:127.0.0.1 as 127.0.0.1, too.
		return []Address{{Network: network, IP: netip.AddrPortFrom(ip.Unmap(), port)}}, nil
	}
	var all []Address
	for _, ip := range both {
		all = append(all, Address{Network: network, IP: netip.AddrPortFrom(ip, port), Name: s})
	}
	return all, nil
}

func cutPort(s string) (host string, port uint16, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 16)
	host = s[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
		if host == "" || host == "*" {
			return "", 0, false // a wildcard has no brackets
		}
	} else if strings.Contains(host, ":") {
		return "", 0, false
	}
	return host, uint16(n), err == nil
}

func networks(field func(*Config) *[]netip.Prefix) value {
	return value{kind: "a list of networks", list: true, set: func(c *Config, s string) (err error) {
		*field(c), err = parseParts(s, parseNetwork)
		return err
	}}
}

func parseNetwork(s string) (p netip.Prefix, err error) {
	if p, err = netip.ParsePrefix(s); err != nil {
		return p, errors.New("is not a network such as 10.0.0.0/8 or fd00::/8 (of one address: 10.0.0.1/32)")
	}
	if !p.Addr().Is4In6() {
		return p.Masked(), nil
	}
	if p.Bits() < 96 {
		return p, errors.New("matches no sender: IPv4 addresses are not written as ::ffff:0:0/96 here, but as 0.0.0.0/0 or 10.0.0.0/8")
	}
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked(), nil
}
