package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"collectord/config"
)

// passedSocket is a listening socket that the process inherited (sd_listen_fds(3)).
// Either the previous daemon stored it in the service manager, or it belongs to a
// socket unit.
type passedSocket struct {
	file *os.File
	name string
	addr config.Address
	dual bool // bound to [::], and accepts IPv4 also
}

// addresses returns the addresses that the socket listens on.
func (s *passedSocket) addresses() []config.Address {
	if !s.dual {
		return []config.Address{s.addr}
	}
	v4 := s.addr
	v4.IP = netip.AddrPortFrom(netip.IPv4Unspecified(), s.addr.IP.Port())
	return []config.Address{v4, s.addr}
}

func (s *passedSocket) String() string {
	if s.dual {
		return s.addr.String() + " (IPv4 and IPv6)"
	}
	return s.addr.String()
}

// storedPrefix is the prefix of the names of stored sockets, before a number. The name
// contains no address, because the kernel reports the bound address reliably.
const storedPrefix = "collectord-"

// isStored reports whether a daemon stored the socket in the service manager.
func (s *passedSocket) isStored() bool {
	number, ours := strings.CutPrefix(s.name, storedPrefix)
	_, err := strconv.ParseUint(number, 10, 32)
	return ours && err == nil
}

// firstPassed is the first descriptor that is passed (SD_LISTEN_FDS_START).
const firstPassed = 3

// passedSockets returns the listening sockets that were passed to the process. It logs
// all other descriptors. It closes them if they are sockets.
func passedSockets(logger *slog.Logger) (all []*passedSocket) {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // fails only for invalid names
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 {
		logger.Warn("LISTEN_FDS is not a number: no passed sockets are used", "value", fds)
		return nil
	}
	each := strings.Split(names, ":")
	for i := range n {
		fd := firstPassed + i
		unix.CloseOnExec(fd)
		s := &passedSocket{}
		if i < len(each) {
			s.name = each[i]
		}
		if s.addr, s.dual, err = boundTo(fd); err != nil {
			logger.Warn("a descriptor that was passed to the daemon is not used", "descriptor", fd, "name", s.name, "error", err)
			if !errors.Is(err, unix.ENOTSOCK) { // it may belong to the Go runtime, if LISTEN_FDS is wrong
				_ = unix.Close(fd)
			}
			continue
		}
		s.file = os.NewFile(uintptr(fd), s.addr.String())
		all = append(all, s)
	}
	return all
}

// boundTo returns the address of a listening socket. dual reports whether it is [::]
// and serves both families.
func boundTo(fd int) (a config.Address, dual bool, err error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return a, false, os.NewSyscallError("getsockopt", err)
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return a, false, os.NewSyscallError("getsockopt", err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return a, false, os.NewSyscallError("getsockname", err)
	}
	switch {
	case kind == unix.SOCK_STREAM && listens == 1:
		a.Network = "tcp"
	case kind == unix.SOCK_DGRAM:
		a.Network = "udp"
	default:
		return a, false, errors.New("it is not a socket for connections or datagrams")
	}
	switch own := own.(type) {
	case *unix.SockaddrInet4:
		a.IP = netip.AddrPortFrom(netip.AddrFrom4(own.Addr), uint16(own.Port))
		return a, false, nil
	case *unix.SockaddrInet6:
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return a, false, os.NewSyscallError("getsockopt", err)
		}
		ip := netip.AddrFrom16(own.Addr).Unmap()
		if own.ZoneId != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(own.ZoneId), 10))
		}
		a.IP = netip.AddrPortFrom(ip, uint16(own.Port))
		return a, ip.IsUnspecified() && ip.Is6() && only == 0, nil
	case *unix.SockaddrUnix:
		if a.Network == "tcp" {
			return config.Address{Network: "unix", Path: own.Name}, false, nil
		}
	}
	return a, false, errors.New("it is a socket of a kind that the daemon does not use")
}

// normalized converts a configured address to the form that boundTo returns: without the
// name of its entry, and with a numeric zone.
func normalized(a config.Address) config.Address {
	a.Name = ""
	if zone := a.IP.Addr().Zone(); zone != "" {
		if i, err := net.InterfaceByName(zone); err == nil {
			a.IP = netip.AddrPortFrom(a.IP.Addr().WithZone(strconv.Itoa(i.Index)), a.IP.Port())
		}
	}
	return a
}

// isStream reports whether the socket accepts connections rather than datagrams.
func (s *passedSocket) isStream() bool { return s.addr.Network != "udp" }

// isReachable reports whether clients can still find the socket. A unix socket needs its
// file.
func (s *passedSocket) isReachable() bool {
	if s.addr.Network != "unix" {
		return true
	}
	info, err := os.Lstat(s.addr.Path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

// listener returns a listener for the socket. It sets the access of a stored unix
// socket only, because a socket unit sets its own.
func (s *passedSocket) listener(access socketAccess) (net.Listener, error) {
	defer s.file.Close() // FileListener duplicates it
	if s.addr.Network == "unix" && s.isStored() {
		if err := access.grant(s.addr.Path); err != nil {
			return nil, fmt.Errorf("unix socket %s: %w", s.addr.Path, err)
		}
	}
	return net.FileListener(s.file)
}

func (s *passedSocket) packetConn() (*net.UDPConn, error) {
	defer s.file.Close() // FilePacketConn duplicates it
	c, err := net.FilePacketConn(s.file)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil //nolint:forcetypeassert // boundTo has checked the kind
}

// adoption records which passed sockets the daemon uses.
type adoption struct {
	sockets  map[config.Address][]*passedSocket // by the first configured address that the socket serves
	served   map[config.Address]int             // number of sockets that serve an address
	fromUnit map[config.Address]bool            // whether an address has sockets of a socket unit
}

// adopt selects the passed sockets that serve configured addresses. From the store it
// takes at most wanted[address] sockets; from socket units it takes all. unused contains
// the others.
func adopt(passed []*passedSocket, wanted map[config.Address]int, logger *slog.Logger) (a adoption, unused []*passedSocket) {
	a = adoption{map[config.Address][]*passedSocket{}, map[config.Address]int{}, map[config.Address]bool{}}
	for _, s := range passed {
		all := s.addresses()
		configured := slices.DeleteFunc(slices.Clone(all), func(to config.Address) bool { return wanted[to] == 0 })
		usable := len(configured) > 0 && s.isReachable()
		if s.isStored() {
			// A stored socket that serves more than is configured is not used: an
			// earlier version stored a dual socket for 0.0.0.0.
			enough := func(to config.Address) bool { return a.served[to] >= wanted[to] }
			usable = usable && len(configured) == len(all) && !slices.ContainsFunc(all, enough)
		}
		if !usable {
			unused = append(unused, s)
			continue
		}
		if len(configured) < len(all) {
			// The socket unit keeps this socket open, so no other one could bind its
			// port.
			logger.Warn("a socket that was passed to the daemon takes both IPv4 and IPv6, and only one of them is configured: list :port for both, or set BindIPv6Only=ipv6-only in the socket unit",
				"address", s.String(), "name", s.name, "configured", configured[0].String())
		}
		a.sockets[configured[0]] = append(a.sockets[configured[0]], s)
		for _, to := range configured {
			a.served[to]++
			a.fromUnit[to] = a.fromUnit[to] || !s.isStored()
		}
	}
	return a, unused
}

// forEntry returns the adopted sockets for an entry of a list.
func (a adoption) forEntry(entry []config.Address) (all []*passedSocket) {
	for _, to := range entry {
		all = append(all, a.sockets[normalized(to)]...)
	}
	return all
}

// socketStore stores sockets in the service manager while no daemon runs. Meanwhile the
// kernel accepts connections and datagrams for the next daemon. The store ends when the
// service is stopped.
type socketStore struct {
	manager notifier
	names   map[string]bool // names in the store
	streams []string        // names of the stream sockets in the store
	logger  *slog.Logger
}

func newSocketStore(manager notifier, passed []*passedSocket, logger *slog.Logger) *socketStore {
	st := &socketStore{manager: manager, names: map[string]bool{}, logger: logger}
	for _, s := range passed {
		if s.isStored() {
			st.record(s.name, s.isStream())
		}
	}
	return st
}

func (st *socketStore) record(name string, stream bool) {
	st.names[name] = true
	if stream {
		st.streams = append(st.streams, name)
	}
}

// exists reports whether a store exists. $FDSTORE is its size; systemd before 254 does
// not set it.
func (st *socketStore) exists() bool { return st.manager != "" && os.Getenv("FDSTORE") != "0" }

// add stores a socket, and reports whether it was sent to the store.
func (st *socketStore) add(c syscall.Conn) bool {
	if !st.exists() {
		return false
	}
	name := ""
	for i := 0; name == "" || st.names[name]; i++ {
		name = storedPrefix + strconv.Itoa(i)
	}
	// FDPOLL=0 prevents the service manager from removing a socket on which it sees an
	// error or hang-up.
	if err := st.manager.sendDescriptor(c, "FDSTORE=1", "FDNAME="+name, "FDPOLL=0"); err != nil {
		st.logger.Warn("a socket will not be kept open across a restart", "trouble", "notify", "error", err)
		return false
	}
	_, datagrams := c.(*net.UDPConn)
	st.record(name, !datagrams)
	return true
}

// remove removes a socket from the store.
func (st *socketStore) remove(name string) {
	st.streams = slices.DeleteFunc(st.streams, func(s string) bool { return s == name })
	if err := st.manager.send("FDSTOREREMOVE=1", "FDNAME="+name); err != nil {
		st.logger.Warn("a socket that no process uses may stay open", "trouble", "notify", "name", name, "error", err)
	}
}

// removeStreams removes the stream sockets after a failed start, so that the kernel
// refuses clients at once instead of letting them wait.
func (st *socketStore) removeStreams() {
	for _, name := range slices.Clone(st.streams) {
		st.remove(name)
	}
}
