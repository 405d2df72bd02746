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

// passedSocket is a listening socket that the process was started with, as
// sd_listen_fds(3) describes it: one that the daemon before put into the service
// manager's store, or one of a socket unit.
type passedSocket struct {
	file *os.File
	name string
	addr config.Address
}

// storedPrefix begins the names of sockets in the store. A number follows: what
// a socket is bound to, the kernel knows best.
const storedPrefix = "collectord-"

// stored reports whether a daemon put the socket into the store.
func (s *passedSocket) stored() bool {
	number, ours := strings.CutPrefix(s.name, storedPrefix)
	_, err := strconv.ParseUint(number, 10, 32)
	return ours && err == nil
}

// firstPassed is the first descriptor that is passed (SD_LISTEN_FDS_START).
const firstPassed = 3

// passedSockets takes what the process was started with. A socket that does not
// listen is closed with a warning; what is no socket is left alone.
func passedSockets(logger *slog.Logger) (all []*passedSocket) {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // fails for names that can't be
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 {
		logger.Warn("LISTEN_FDS is no number: no sockets are taken over", "value", fds)
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
		if s.addr, err = boundTo(fd); err != nil {
			logger.Warn("a descriptor that was passed to the daemon is not used", "descriptor", fd, "name", s.name, "error", err)
			if !errors.Is(err, unix.ENOTSOCK) { // which might be the runtime's, if LISTEN_FDS is wrong
				_ = unix.Close(fd)
			}
			continue
		}
		s.file = os.NewFile(uintptr(fd), s.addr.String())
		all = append(all, s)
	}
	return all
}

// boundTo tells where a socket listens.
func boundTo(fd int) (a config.Address, err error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return a, os.NewSyscallError("getsockopt", err)
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return a, os.NewSyscallError("getsockopt", err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return a, os.NewSyscallError("getsockname", err)
	}
	switch {
	case kind == unix.SOCK_STREAM && listens == 1:
		a.Network = "tcp"
	case kind == unix.SOCK_DGRAM:
		a.Network = "udp"
	default:
		return a, errors.New("it is no socket that takes connections or datagrams")
	}
	switch own := own.(type) {
	case *unix.SockaddrInet4:
		a.IP = netip.AddrPortFrom(netip.AddrFrom4(own.Addr), uint16(own.Port))
		return a, nil
	case *unix.SockaddrInet6:
		a.IP = netip.AddrPortFrom(netip.AddrFrom16(own.Addr), uint16(own.Port))
		return a, nil
	case *unix.SockaddrUnix:
		if a.Network == "tcp" {
			return config.Address{Network: "unix", Path: own.Name}, nil
		}
	}
	return a, errors.New("it is no socket of a kind that is listened on here")
}

// isStream tells sockets with connections from those with datagrams.
func (s *passedSocket) isStream() bool { return s.addr.Network != "udp" }

// reachable reports whether clients still find the socket.
func (s *passedSocket) reachable() bool {
	if s.addr.Network != "unix" {
		return true
	}
	info, err := os.Lstat(s.addr.Path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

// listener makes the socket one that accepts connections. Whether those of a
// socket unit may be used by others is the unit's business.
func (s *passedSocket) listener(access socketAccess) (net.Listener, error) {
	defer s.file.Close() // it is duplicated
	if s.addr.Network == "unix" && s.stored() {
		if err := access.grant(s.addr.Path); err != nil {
			return nil, fmt.Errorf("unix socket %s: %w", s.addr.Path, err)
		}
	}
	return net.FileListener(s.file)
}

func (s *passedSocket) packetConn() (*net.UDPConn, error) {
	defer s.file.Close() // it is duplicated
	c, err := net.FilePacketConn(s.file)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil //nolint:forcetypeassert // boundTo tells it from others
}

// takeSockets moves those of an address out of all: at most n of those from the
// store, and all of a socket unit.
func takeSockets(all *[]*passedSocket, a config.Address, n int) (taken []*passedSocket) {
	var left []*passedSocket
	for _, s := range *all {
		if s.addr == a && (len(taken) < n || !s.stored()) && s.reachable() {
			taken = append(taken, s)
		} else {
			left = append(left, s)
		}
	}
	*all = left
	return taken
}

// socketStore is where the service manager keeps sockets while no daemon runs:
// the kernel goes on to accept connections and datagrams for the next one. The
// store is gone once the service is stopped.
type socketStore struct {
	manager notifier
	used    map[string]bool // names in it
	streams []string        // those of sockets with connections
	logger  *slog.Logger
}

func newSocketStore(manager notifier, passed []*passedSocket, logger *slog.Logger) *socketStore {
	st := &socketStore{manager: manager, used: map[string]bool{}, logger: logger}
	for _, s := range passed {
		if s.stored() {
			st.enter(s.name, s.isStream())
		}
	}
	return st
}

func (st *socketStore) enter(name string, stream bool) {
	st.used[name] = true
	if stream {
		st.streams = append(st.streams, name)
	}
}

// kept reports whether there is a store. $FDSTORE is its size; before systemd 254
// there is no such variable.
func (st *socketStore) kept() bool { return st.manager != "" && os.Getenv("FDSTORE") != "0" }

// keep puts a socket into the store, and reports whether it could be sent there.
func (st *socketStore) keep(c syscall.Conn) bool {
	if !st.kept() {
		return false
	}
	name := ""
	for i := 0; name == "" || st.used[name]; i++ {
		name = storedPrefix + strconv.Itoa(i)
	}
	// A socket that has nothing to say is not to be taken out of the store for it.
	if err := st.manager.sendDescriptor(c, "FDSTORE=1", "FDNAME="+name, "FDPOLL=0"); err != nil {
		st.logger.Warn("a socket will not be kept open across a restart", "trouble", "notify", "error", err)
		return false
	}
	_, datagrams := c.(*net.UDPConn)
	st.enter(name, !datagrams)
	return true
}

// remove takes a socket out of the store.
func (st *socketStore) remove(name string) {
	st.streams = slices.DeleteFunc(st.streams, func(s string) bool { return s == name })
	if err := st.manager.send("FDSTOREREMOVE=1", "FDNAME="+name); err != nil {
		st.logger.Warn("a socket may stay open that nobody uses", "trouble", "notify", "name", name, "error", err)
	}
}

// removeStreams is for a daemon that can't start: clients are refused then,
// instead of waiting for one that can.
func (st *socketStore) removeStreams() {
	for _, name := range slices.Clone(st.streams) {
		st.remove(name)
	}
}
