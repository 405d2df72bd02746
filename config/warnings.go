package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// warnings returns warnings about settings that are valid but seldom intended.
func (c *Config) warnings() (all []string) {
	for _, entry := range Entries(c.HTTP.Listen) {
		if a := entry[0]; !a.local() && c.HTTP.TokensFile != "" && c.HTTP.TLS.Cert == "" {
			all = append(all, fmt.Sprintf("http.listen %s accepts tokens that can be read on the network: set http.tls.cert and http.tls.key, or listen on localhost behind a proxy that speaks TLS", a.entry()))
		}
	}
	if slices.Contains(c.HTTP.Origins, "null") {
		all = append(all, "http.origins contains null: every web site can make a page with that origin, and send usages from this host's browsers")
	}
	if e := c.Shipper.S3.Endpoint; strings.HasPrefix(c.Shipper.Destination, "s3://") && isPlaintext(e) {
		all = append(all, fmt.Sprintf("shipper.s3.endpoint %s is not encrypted: usages can be read and changed on the network (write https://)", e))
	}
	return slices.Concat(all, c.ipv6OnlyWarnings(), c.unmatchedNetworks())
}

// unmatchedNetworks warns of networks from which no datagram can come: networks of a family
// that no address of udp.listen has, and networks without a valid sender address.
func (c *Config) unmatchedNetworks() (warnings []string) {
	hasListener := func(network netip.Prefix) bool {
		return slices.ContainsFunc(c.UDP.Listen, func(a Address) bool { return a.IP.Addr().Is4() == network.Addr().Is4() })
	}
	everybody := slices.ContainsFunc(c.UDP.Allow, func(network netip.Prefix) bool { return network.Bits() == 0 && hasListener(network) })
	for _, network := range c.UDP.Allow {
		first := network.Addr()
		switch {
		case everybody && network.Bits() == 0: // if one of 0.0.0.0/0 and ::/0 has a listener, the other is harmless
		case len(c.UDP.Listen) > 0 && !hasListener(network):
			family := map[bool]string{true: "IPv4", false: "IPv6"}[first.Is4()]
			warnings = append(warnings, fmt.Sprintf("udp.allow %s matches no sender: udp.listen has no %s address", network, family))
		case first.IsMulticast(), first.IsUnspecified() && network.IsSingleIP():
			warnings = append(warnings, fmt.Sprintf("udp.allow %s matches no sender: no datagram comes from such an address", network))
		}
	}
	return warnings
}
