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

// bindError adds to a bind error the process that uses the address, and the key, flag
// and variable that change the address.
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
			holder = socketTables{}.findHolder(op.Net, a.AddrPort()).String()
		}
		return fmt.Errorf("%s: %w, by %s: stop that process, or listen elsewhere (%s)", key, err, holder, elsewhere)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %w: this host does not have this address: listen on one that it has (%s)", key, err, elsewhere)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: %w: ports below 1024 need CAP_NET_BIND_SERVICE: listen on another port (%s)", key, err, elsewhere)
	}
	return fmt.Errorf("%s: %w", key, err)
}

// portHolder is the process that uses a port, as far as the current user can see it.
type portHolder struct {
	port uint16 // 0: no socket of this network namespace uses it
	name string
	pid  int // 0: not visible to this user
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

// socketTables are the bound sockets in the tables of /proc/net, by table. The kernel walks
// through all hash buckets to print a table, so each is read once.
type socketTables map[string][]boundSocket

// boundSocket is a TCP socket that listens or a UDP socket.
type boundSocket struct {
	local netip.AddrPort
	link  string // link target of its descriptors
}

func (s socketTables) findHolder(network string, addr netip.AddrPort) (h portHolder) {
	socket := ""
	for _, family := range []string{"4", "6"} {
		table := strings.TrimSuffix(network[:3]+family, "4")
		if _, ok := s[table]; !ok {
			s[table] = readSockets("/proc/net/" + table)
		}
		if i := slices.IndexFunc(s[table], func(b boundSocket) bool { return b.conflicts(addr) }); i >= 0 {
			socket = s[table][i].link
			break
		}
	}
	if socket == "" {
		return h
	}
	h.port = addr.Port()
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*") // only the readable ones
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

// readSockets reads a table. A host without IPv6 lacks some.
func readSockets(path string) (all []boundSocket) {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if b, ok := parseSocket(lines.Text()); ok {
			all = append(all, b)
		}
	}
	return all
}

// Columns and states of /proc/net/tcp and udp (proc(5)).
const (
	columnLocal = 1
	columnState = 3
	columnInode = 9

	stateListening = "0A"
	stateOfUDP     = "07"
)

func parseSocket(line string) (b boundSocket, ok bool) {
	fields := strings.Fields(line)
	if len(fields) <= columnInode || fields[columnState] != stateListening && fields[columnState] != stateOfUDP {
		return b, false
	}
	b.local, ok = parseLocal(fields[columnLocal])
	b.link = "socket:[" + fields[columnInode] + "]"
	return b, ok
}

// conflicts reports whether the socket prevents another one from binding addr.
func (b boundSocket) conflicts(addr netip.AddrPort) bool {
	ip, wanted := b.local.Addr(), addr.Addr().Unmap().WithZone("")
	return b.local.Port() == addr.Port() && (ip == wanted || ip.IsUnspecified() || wanted.IsUnspecified())
}

// parseLocal parses an address of the table: words of 32 bits in host order, and the
// port. All supported hosts are little-endian.
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
