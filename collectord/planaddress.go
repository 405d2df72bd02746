package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"collectord/config"
)

// addressWarnings returns why an address may fail to bind. These are only warnings,
// because interfaces and permissions may differ at the start.
func addressWarnings(key string, a config.Address) (warnings []string) {
	ip, port := a.IP.Addr(), a.IP.Port()
	if !ip.IsUnspecified() && !ip.IsLoopback() && !isOwnAddress(ip) {
		warnings = append(warnings, fmt.Sprintf("%s %s is not an address of this host now", key, a))
	}
	if port != 0 && int(port) < firstUnprivileged() && !hasCapability(unix.CAP_NET_BIND_SERVICE) {
		warnings = append(warnings, fmt.Sprintf("%s %s: %s can't bind a port below %d, unless the service or a socket unit permits it (AmbientCapabilities=CAP_NET_BIND_SERVICE)", key, a, userName(os.Geteuid()), firstUnprivileged()))
	}
	return warnings
}

func isOwnAddress(ip netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(all, func(a net.Addr) bool {
		own, err := netip.ParsePrefix(a.String())
		return err == nil && own.Addr() == ip.WithZone("")
	})
}

// firstUnprivileged returns the lowest port that needs no privilege to bind.
func firstUnprivileged() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	n, wrong := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || wrong != nil {
		return 1024
	}
	return n
}

// hasCapability reports whether the process has a capability. It supports the first 32.
func hasCapability(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<capability) != 0
}
