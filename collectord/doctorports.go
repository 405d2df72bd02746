package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"collectord/collectord/doctor"
	"collectord/config"
)

// listenKeys returns the configured addresses of each listen key.
func listenKeys(cfg *config.Config) []struct {
	key string
	all []config.Address
} {
	return []struct {
		key string
		all []config.Address
	}{{"http.listen", cfg.HTTP.Listen}, {"udp.listen", cfg.UDP.Listen}, {"admin.listen", cfg.Admin.Listen}}
}

// findHolders finds the processes that use the configured ports. It runs before
// becomeDaemonUser, because only root can see the sockets of all users.
func (x *checkRun) findHolders() {
	cfg := config.Read(x.src).Config
	if os.Geteuid() != 0 || cfg == nil {
		return
	}
	x.holders = map[config.Address]portHolder{}
	for _, list := range listenKeys(cfg) {
		for _, a := range list.all {
			if a.Network != "unix" {
				x.holders[normalized(a)] = x.sockets.findHolder(a.Network, a.IP)
			}
		}
	}
}

// ports checks whether each address can be bound, and finds the process that uses it.
func (x *checkRun) ports() (all []doctor.Check) {
	for _, list := range listenKeys(x.draft.Config) {
		name := "ports." + list.key
		if len(list.all) == 0 {
			all = append(all, doctor.Fine(name, "off"))
		}
		for _, a := range list.all {
			if a.Network == "unix" {
				all = append(all, x.unixSocket(name, a))
			} else {
				all = append(all, x.port(name, list.key, a))
			}
		}
	}
	return all
}

func (x *checkRun) port(name, key string, a config.Address) doctor.Check {
	where := a.Network + " " + a.String()
	if a.IP.Port() == 0 {
		return doctor.Fine(name, where+": any port that is free")
	}
	h := x.sockets.findHolder(a.Network, a.IP)
	if root := x.holders[normalized(a)]; h.port != 0 && h.pid == 0 && root.pid != 0 {
		h = root
	}
	const advice = "stop that program, or listen elsewhere"
	switch {
	case h.port != 0 && h.pid == 0:
		return doctor.Warn(name, where+" is in use by "+h.String(), "find out which program that is; a socket unit of this service is fine")
	case h.port != 0 && strconv.Itoa(h.pid) == x.log.process:
		return doctor.Fine(name, where+": the running daemon has it"+fmt.Sprintf(" (process %d)", h.pid))
	case h.pid == 1:
		return doctor.Fine(name, where+": the service manager has it, for a socket unit or for the service's next start")
	case h.port != 0:
		return doctor.Fail(name, where+" is in use by "+h.String(), fmt.Sprintf("%s (%s, or %s)", advice, key, config.EnvOf(key)))
	}
	switch err := probeBind(a); {
	case err == nil:
		return doctor.Fine(name, where+" is free")
	case a.Name != "" && isMissing(err):
		return doctor.Fine(name, where+" is skipped: this host does not have its address family (IPv4 or IPv6)")
	case errors.Is(err, syscall.EACCES):
		return doctor.Warn(name, where+" can't be bound by "+userName(os.Geteuid()), "the service needs AmbientCapabilities=CAP_NET_BIND_SERVICE, or a port above 1023")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return doctor.Fail(name, where+" is not an address of this host", "listen on an address that it has")
	default:
		return doctor.Fail(name, where+" can't be bound: "+err.Error(), advice)
	}
}

// probeBind binds an address and closes the socket at once, to test whether it is free.
func probeBind(a config.Address) error {
	if a.Network == "udp" {
		return probeUDP(a)
	}
	ln, err := net.Listen(family("tcp", a.IP.Addr()), a.IP.String())
	if err != nil {
		return err
	}
	return ln.Close()
}

// unixSocket checks whether a unix socket is in use. The checks of the configuration
// cover whether it can be created.
func (x *checkRun) unixSocket(name string, a config.Address) doctor.Check {
	c, err := net.Dial("unix", a.Path)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return doctor.Fine(name, a.String()+" is free")
	case err != nil:
		return doctor.Warn(name, a.String()+" may be in use: "+err.Error(), "see who listens there (ss -lxp)")
	}
	defer c.Close()
	pid := peerProcess(c)
	switch {
	case pid != "" && pid == x.log.process:
		return doctor.Fine(name, a.String()+": the running daemon has it (process "+pid+")")
	case pid == "1":
		return doctor.Fine(name, a.String()+": the service manager has it, for a socket unit or for the service's next start")
	}
	return doctor.Fail(name, a.String()+" is in use by process "+pid, "stop that program, or listen elsewhere")
}

// peerProcess returns the id of the process that listens on a unix socket, or "".
func peerProcess(c io.Closer) (pid string) {
	conn, ok := c.(syscall.Conn)
	if !ok {
		return ""
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return ""
	}
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = strconv.Itoa(int(peer.Pid))
		}
	})
	return pid
}
