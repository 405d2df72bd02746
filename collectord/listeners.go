package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"collectord/collectord/udpserver"
	"collectord/config"
)

// listeners are the sockets of all servers.
type listeners struct {
	http, admin    []net.Listener
	udp            []*net.UDPConn
	retired        []*passedSocket // datagram sockets that are no longer configured, but must still be read
	passed         int             // number of passed sockets in http, admin and udp
	kept           bool            // the service manager keeps the sockets open after this process ends
	closingStreams bool            // stream sockets were removed from the store, and may stay open briefly
	adopted        adoption
	missing        []string // addresses of a family that the host lacks
	store          *socketStore
}

// listen adopts the configured sockets that were passed to the process, and binds the
// rest. It returns all configured sockets, or an error and none. It first closes stream
// sockets that are no longer configured, because their ports may be needed.
func listen(cfg *config.Config, passed []*passedSocket, store *socketStore, logger *slog.Logger) (_ *listeners, err error) {
	l := &listeners{store: store}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	options := udpOptions(cfg, logger)
	options.ReceiveBuffer /= max(1, len(cfg.UDP.Listen))
	wanted := map[config.Address]int{}
	for _, a := range slices.Concat(cfg.HTTP.Listen, cfg.Admin.Listen) {
		wanted[normalized(a)] = 1
	}
	for _, a := range cfg.UDP.Listen {
		wanted[normalized(a)] = options.SocketsPerAddress()
	}
	var unused []*passedSocket
	l.adopted, unused = adopt(passed, wanted, logger)
	l.retire(unused, logger)
	// Report all errors at once, so that an operator can correct them in one step.
	var errs [3]error
	l.http, errs[0] = l.openStreams("http.listen", cfg.HTTP.Listen, socketAccess{cfg.HTTP.SocketMode, cfg.HTTP.SocketGroup})
	l.admin, errs[1] = l.openStreams("admin.listen", cfg.Admin.Listen, socketAccess{0o600, -1})
	l.udp, errs[2] = l.openDatagrams("udp.listen", cfg.UDP.Listen, options)
	if err = errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	l.kept = l.kept || l.passed > 0
	if len(l.missing) > 0 {
		logger.Info("not listening on some addresses: this host does not have their address family (IPv4 or IPv6)", "addresses", l.missing)
	}
	return l, nil
}

// retire closes the passed sockets that are not configured. It keeps stored datagram
// sockets open in retired, because datagrams may wait in them.
func (l *listeners) retire(passed []*passedSocket, logger *slog.Logger) {
	for _, s := range passed {
		switch {
		case !s.isStored():
			logger.Warn("a socket that was passed to the daemon is not used: no listen key has its address", "address", s.String(), "name", s.name)
		case s.isStream():
			logger.Info("a socket of the previous daemon is no longer configured", "address", s.String())
			l.store.remove(s.name)
			l.closingStreams = true
		default:
			l.retired = append(l.retired, s)
			continue
		}
		_ = s.file.Close()
	}
}

// bindErrors adds the key and an explanation to each joined error.
func bindErrors(key string, err error) error {
	if err == nil {
		return nil
	}
	all, several := err.(interface{ Unwrap() []error })
	if !several {
		return bindError(key, err)
	}
	var errs []error
	for _, err := range all.Unwrap() {
		errs = append(errs, bindErrors(key, err))
	}
	return errors.Join(errs...)
}

// openStreams returns the stream listeners of a key. After an error it also returns the
// sockets opened so far, for the caller to close.
func (l *listeners) openStreams(key string, addrs []config.Address, access socketAccess) (all []net.Listener, err error) {
	for _, entry := range config.Entries(addrs) {
		adopted := l.adopted.forEntry(entry)
		for _, s := range adopted {
			ln, err := s.listener(access)
			if err != nil {
				return all, bindErrors(key, err)
			}
			all = append(all, ln)
			l.passed++
		}
		bound, failed := bindEntry(l, entry, func(a config.Address) ([]net.Listener, error) {
			if l.adopted.served[normalized(a)] > 0 {
				return nil, nil
			}
			ln, err := l.bind(a, access)
			if err != nil {
				return nil, err
			}
			return []net.Listener{ln}, nil
		})
		err = errors.Join(err, bindErrors(key, failed))
		all = append(all, bound...)
		for _, ln := range bound {
			if l.store.add(ln.(syscall.Conn)) { //nolint:forcetypeassert // TCP and unix listeners implement it
				l.kept = true
				if ln, ok := ln.(*net.UnixListener); ok {
					ln.SetUnlinkOnClose(false)
				}
			}
		}
	}
	return all, err
}

// Limits on waiting until the service manager has closed the sockets removed from its
// store. Without the wait the start would fail, and the service manager would only
// repeat it.
const (
	closeTimeout      = 10 * time.Second
	closePollInterval = 20 * time.Millisecond
)

// family returns the name of a network for one IP family only. Plain "tcp" would bind a
// wildcard address in both families.
func family(network string, ip netip.Addr) string {
	if ip.Is4() {
		return network + "4"
	}
	return network + "6"
}

func (l *listeners) bind(a config.Address, access socketAccess) (net.Listener, error) {
	if a.Network == "unix" {
		return listenUnix(a.Path, access)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // its sockets can't begin with a small receive buffer that grows
	for began := time.Now(); ; {
		ln, err := lc.Listen(context.Background(), family("tcp", a.IP.Addr()), a.IP.String())
		if !l.closingStreams || !errors.Is(err, syscall.EADDRINUSE) || time.Since(began) > closeTimeout {
			return ln, err
		}
		<-time.After(closePollInterval)
	}
}

// openDatagrams returns the UDP sockets of a key. After an error it also returns the
// sockets opened so far, for the caller to close.
func (l *listeners) openDatagrams(key string, addrs []config.Address, o udpserver.Options) (all []*net.UDPConn, err error) {
	for _, entry := range config.Entries(addrs) {
		for _, s := range l.adopted.forEntry(entry) {
			c, err := s.packetConn()
			if err != nil {
				return all, bindErrors(key, err)
			}
			all = append(all, c)
			l.passed++
		}
		bound, failed := bindEntry(l, entry, func(a config.Address) ([]*net.UDPConn, error) { return l.bindUDP(a, o) })
		err = errors.Join(err, bindErrors(key, failed))
		all = append(all, bound...)
		for _, c := range bound {
			l.kept = l.store.add(c) || l.kept
		}
	}
	return all, err
}

// bindUDP binds the sockets that an address needs in addition to the passed ones.
func (l *listeners) bindUDP(a config.Address, o udpserver.Options) ([]*net.UDPConn, error) {
	served := l.adopted.served[normalized(a)]
	if l.adopted.fromUnit[normalized(a)] { // the socket unit determines their number
		return nil, nil
	}
	if served == 0 && !l.hasRetired(a.IP.Port()) {
		// With SO_REUSEPORT alone, two daemons would share the port without an error.
		if err := probeUDP(a); err != nil {
			return nil, err
		}
	}
	if o.Sockets = o.SocketsPerAddress() - served; o.Sockets <= 0 {
		return nil, nil
	}
	return udpserver.Listen(a.IP, o)
}

// hasRetired reports whether a socket in retired uses the port. Such a socket is no
// conflict, but the probe would mistake it for a socket of another daemon.
func (l *listeners) hasRetired(port uint16) bool {
	return slices.ContainsFunc(l.retired, func(s *passedSocket) bool { return s.addr.IP.Port() == port })
}

func probeUDP(a config.Address) error {
	c, err := net.ListenUDP(family("udp", a.IP.Addr()), net.UDPAddrFromAddrPort(a.IP))
	if err != nil {
		return err
	}
	return c.Close()
}

// maxPortTries is how often an entry with port 0 tries to find a port that is free in both
// families.
const maxPortTries = 10

// bindEntry binds all addresses of one entry of a list, or none. With port 0 they share
// one port.
func bindEntry[S io.Closer](l *listeners, entry []config.Address, bind func(config.Address) ([]S, error)) ([]S, error) {
	for try := 1; ; try++ {
		bound, missing, err := bindFamilies(entry, bind)
		if err == nil {
			l.missing = append(l.missing, missing...)
			return bound, nil
		}
		for _, s := range bound {
			_ = s.Close()
		}
		if len(entry) == 1 || entry[0].IP.Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) || try == maxPortTries {
			return nil, err
		}
	}
}

// bindFamilies binds the addresses of an entry, and skips a family that the host lacks
// if another one works. An address in use is an error, because its clients would reach
// another program. After an error it also returns the sockets bound so far, for the
// caller to close.
func bindFamilies[S io.Closer](entry []config.Address, bind func(config.Address) ([]S, error)) (all []S, missing []string, err error) {
	port, errs := entry[0].IP.Port(), error(nil)
	for _, a := range entry {
		a.IP = netip.AddrPortFrom(a.IP.Addr(), port)
		bound, err := bind(a)
		all = append(all, bound...)
		switch {
		case a.Name != "" && isMissing(err):
			missing = append(missing, a.Network+" "+a.String())
			errs = errors.Join(errs, err)
		case err != nil:
			return all, nil, err
		case port == 0 && len(bound) > 0:
			port = portOf(bound[0])
		}
	}
	if len(missing) == len(entry) {
		return all, nil, errs
	}
	return all, missing, nil
}

// isMissing reports whether an error means that the host lacks the address family. A
// kernel without IPv6 returns EAFNOSUPPORT, and one with net.ipv6.conf.all.disable_ipv6
// returns EADDRNOTAVAIL for ::1.
func isMissing(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

func portOf(s any) uint16 {
	var addr net.Addr
	switch s := s.(type) {
	case net.Listener:
		addr = s.Addr()
	case *net.UDPConn:
		addr = s.LocalAddr()
	}
	if a, ok := addr.(interface{ AddrPort() netip.AddrPort }); ok {
		return a.AddrPort().Port()
	}
	return 0 // a unix socket
}

func (l *listeners) close() {
	for _, ln := range slices.Concat(l.http, l.admin) {
		_ = ln.Close() // no effect if a server has closed it
	}
	for _, c := range l.udp {
		_ = c.Close()
	}
	for _, s := range l.retired {
		_ = s.file.Close()
	}
}
