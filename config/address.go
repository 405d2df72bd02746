package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
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
