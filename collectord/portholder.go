package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"collectord/config"
)

// bindError says why an address of a key can't be listened on: who has it, and which
// flag changes it.
func bindError(key string, err error) error {
	elsewhere := fmt.Sprintf("%s, --%s or %s", key, strings.ReplaceAll(key, ".", "-"), config.EnvOf(key))
	var op *net.OpError
	if !errors.As(err, &op) || op.Addr == nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		holder := "another process"
		if a, ok := op.Addr.(interface{ AddrPort() netip.AddrPort }); ok {
			holder = findHolder(op.Net, a.AddrPort()).String()
		}
		return fmt.Errorf("%s: %w, by %s: stop that, or listen elsewhere (%s)", key, err, holder, elsewhere)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %w: this host does not have it: listen on one that it has (%s)", key, err, elsewhere)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: %w: ports below 1024 need CAP_NET_BIND_SERVICE: listen on another (%s)", key, err, elsewhere)
	}
	return fmt.Errorf("%s: %w", key, err)
}

// portHolder is the process that has a port, as far as this user may see.
type portHolder struct {
	port uint16 // 0: no socket of this network namespace has it
	name string
	pid  int // 0: this user may not see it
}

func (h portHolder) String() string {
	switch {
	case h.port == 0:
		return "a process of another network namespace, or one that has just ended"
	case h.pid == 0:
		return fmt.Sprintf("a process that this user may not see (as root: ss -lnp sport = %d)", h.port)
	}
	return fmt.Sprintf("%s (process %d)", quoted(h.name), h.pid)
}

func findHolder(network string, addr netip.AddrPort) (h portHolder) {
	socket := ""
	for _, table := range []string{"4", "6"} {
		file, err := os.Open("/proc/net/" + strings.TrimSuffix(network[:3]+table, "4"))
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); socket == "" && lines.Scan(); {
			socket = boundSocket(lines.Text(), addr)
		}
		_ = file.Close()
	}
	if socket == "" {
		return h
	}
	h.port = addr.Port()
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*") // those that may be read
	for _, fd := range descriptors {
		if target, err := os.Readlink(fd); err == nil && target == socket {
			process := filepath.Dir(filepath.Dir(fd))
			name, _ := os.ReadFile(process + "/comm")
			h.name = strings.TrimSpace(string(name))
			h.pid, _ = strconv.Atoi(filepath.Base(process))
			return h
		}
	}
	return h
}

// Columns and states of /proc/net/tcp and its kind, as proc(5) has them.
const (
	columnLocal = 1
	columnState = 3
	columnInode = 9

	stateListening = "0A"
	stateOfUDP     = "07"
)

// boundSocket returns what a descriptor of the socket of that line links to, if the
// socket is in the way of one that is to be bound to addr.
func boundSocket(line string, addr netip.AddrPort) string {
	fields := strings.Fields(line)
	if len(fields) <= columnInode || fields[columnState] != stateListening && fields[columnState] != stateOfUDP {
		return ""
	}
	local, ok := parseLocal(fields[columnLocal])
	if !ok || local.Port() != addr.Port() {
		return ""
	}
	if ip, wanted := local.Addr(), addr.Addr().Unmap().WithZone(""); ip != wanted && !ip.IsUnspecified() && !wanted.IsUnspecified() {
		return ""
	}
	return "socket:[" + fields[columnInode] + "]"
}

// parseLocal reads an address: words of 32 bits in the host's order, which is
// little-endian wherever this is built for, and the port.
func parseLocal(text string) (addr netip.AddrPort, ok bool) {
	words, port, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	raw, err2 := hex.DecodeString(words)
	if err != nil || err2 != nil || len(raw)%4 != 0 {
		return addr, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	ip, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), ok
}
