package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"collectord/config"
)

// bindSocket binds a socket as a socket unit does: to 0.0.0.0, to [::] for IPv6 only, or to
// [::] for both families.
func bindSocket(t *testing.T, datagrams bool, what string, port int) *os.File {
	t.Helper()
	kind := unix.SOCK_STREAM
	if datagrams {
		kind = unix.SOCK_DGRAM
	}
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: port})
	if what == "0.0.0.0" {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: port}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	only := 1
	if what == "dual" {
		only = 0
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, to))
	if !datagrams {
		err = errors.Join(err, unix.Listen(fd, 100))
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), what)
}

// reachableFamilies returns the address families in which a TCP port accepts connections.
func reachableFamilies(port int) string {
	var all []string
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err == nil {
			c.Close()
			all = append(all, host)
		}
	}
	return strings.Join(all, " ")
}

// configureListen writes the listen addresses for HTTP and UDP into a configuration. PORT
// in them stands for the port.
func configureListen(t *testing.T, more, listen string) (path string, port, admin int) {
	t.Helper()
	path, port, admin = configure(t, t.TempDir(), "wal: {min_free: 0}\n"+more)
	listen = strings.ReplaceAll(listen, "PORT", fmt.Sprint(port))
	replaceInFile(t, path, fmt.Sprintf("http: {listen: '127.0.0.1:%d'", port), "http: {anonymous: true, listen: '"+listen+"'")
	replaceInFile(t, path, fmt.Sprintf("udp: {listen: '127.0.0.1:%d'", port), "udp: {sockets: 2, allow: [0.0.0.0/0, '::/0'], listen: '"+listen+"'")
	return path, port, admin
}

// sendDatagramsOver sends a datagram in each family, and waits for those of the reachable
// families.
func sendDatagramsOver(t *testing.T, d *daemon, families string) {
	t.Helper()
	const series = `collectord_usages_appended_total{source="udp"}`
	before, want := d.metrics()[series], 0.0
	for _, host := range strings.Fields(families) {
		c, err := net.Dial("udp", net.JoinHostPort(host, fmt.Sprint(d.port)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(`{"a":1}`)); err != nil {
			t.Fatal(err)
		}
		want++
	}
	until(t, "the datagrams are appended", func() bool { return d.metrics()[series] == before+want })
}

const (
	ipv4 = "127.0.0.1"
	ipv6 = "::1"
	both = "127.0.0.1 ::1"
)

func TestWildcardsAreOfTheFamilyThatTheyName(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]struct{ families, warning string }{
		"0.0.0.0:PORT":           {ipv4, ""},
		"[::]:PORT":              {ipv6, "is IPv6 only"},
		"0.0.0.0:PORT,[::]:PORT": {both, ""},
		":PORT":                  {both, ""},
		"*:PORT":                 {both, ""},
		"localhost:PORT":         {both, ""},
	} {
		t.Run(strings.NewReplacer(",", "+").Replace(listen), func(t *testing.T) {
			t.Parallel()
			m := startManager(t, filepath.Join(t.TempDir(), "notify"))
			config, port, admin := configureListen(t, "", listen)
			replaceInFile(t, config, fmt.Sprintf("admin: {listen: '127.0.0.1:%d'", admin), "admin: {listen: '"+strings.ReplaceAll(listen, "PORT", fmt.Sprint(admin))+"'")
			if want.families == ipv6 { // the test reads metrics over IPv4
				replaceInFile(t, config, "admin: {listen: '", fmt.Sprintf("admin: {listen: '127.0.0.1:%d,", admin))
			}
			d := m.run(nil, config, port, admin)
			if got := reachableFamilies(port); got != want.families {
				t.Errorf("HTTP is reached over %q, want %q", got, want.families)
			}
			if got := reachableFamilies(admin); got != want.families && want.families != ipv6 {
				t.Errorf("admin is reached over %q, want %q", got, want.families)
			}
			sendDatagramsOver(t, d, want.families)
			if got := strings.Count(d.log(), "level=WARN"); (want.warning != "") != (got > 0) || !strings.Contains(d.log(), want.warning) {
				t.Errorf("%d warnings", got)
			}

			// The next daemon uses all sockets of the previous one. A client that connects
			// between the two daemons is answered.
			families := len(strings.Fields(want.families))
			stored := 3*families + families // UDP has two of each
			if want.families == ipv6 {
				stored++
			}
			until(t, "the service manager stores the sockets", func() bool { return m.storedCount() == stored })
			d.stop()
			early, err := net.Dial("tcp", net.JoinHostPort(strings.Fields(want.families)[0], fmt.Sprint(port)))
			if err != nil {
				t.Fatal(err)
			}
			defer early.Close()
			if _, err := early.Write([]byte("GET /healthz HTTP/1.0\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			d = m.run(nil, config, port, admin)
			answer := make([]byte, 12)
			if n, err := early.Read(answer); err != nil || n == 0 {
				t.Errorf("a client that connected between two daemons is answered %q: %v", answer[:n], err)
			}
			if !strings.Contains(d.log(), fmt.Sprintf("passed_sockets=%d", stored)) || m.storedCount() != stored {
				t.Errorf("not all of %d sockets are used; %d are stored", stored, m.storedCount())
			}
		})
	}
}

// TestPassedSocketsAreMatchedByFamily combines the sockets that a unit or the store can pass
// with the addresses that can be configured. The daemon starts with every combination.
func TestPassedSocketsAreMatchedByFamily(t *testing.T) {
	t.Parallel()
	type result struct {
		families string
		passed   int // passed sockets that are used: at most one for HTTP and one for UDP
		bound    int // sockets that the daemon binds and stores: for each family one for HTTP and two for UDP
	}
	const unit, stored = "a.socket", "collectord-7"
	for _, c := range []struct {
		from, passed, listen string
		want                 result
	}{
		{unit, "0.0.0.0", "0.0.0.0:PORT", result{ipv4, 2, 0}},
		{unit, "0.0.0.0", ":PORT", result{both, 2, 3}},
		{unit, "0.0.0.0", "0.0.0.0:PORT,[::]:PORT", result{both, 2, 3}},
		{unit, "0.0.0.0", "[::]:PORT", result{ipv6, 0, 3}},
		{unit, "[::]", "[::]:PORT", result{ipv6, 2, 0}},
		{unit, "[::]", "*:PORT", result{both, 2, 3}},
		{unit, "[::]", "0.0.0.0:PORT,[::]:PORT", result{both, 2, 3}},
		{unit, "[::]", "0.0.0.0:PORT", result{ipv4, 0, 3}},
		{unit, "dual", ":PORT", result{both, 2, 0}},
		{unit, "dual", "0.0.0.0:PORT,[::]:PORT", result{both, 2, 0}},
		// The unit keeps its socket open, whatever the configuration is.
		{unit, "dual", "[::]:PORT", result{both, 2, 0}},
		{unit, "dual", "0.0.0.0:PORT", result{both, 2, 0}},

		{stored, "dual", ":PORT", result{both, 2, 2}}, // UDP gets its second sockets
		{stored, "dual", "0.0.0.0:PORT", result{ipv4, 0, 3}},
		{stored, "dual", "[::]:PORT", result{ipv6, 0, 3}},
		{stored, "0.0.0.0", "0.0.0.0:PORT", result{ipv4, 2, 1}},
		{stored, "[::]", "0.0.0.0:PORT", result{ipv4, 0, 3}},
	} {
		t.Run(strings.NewReplacer(",", "+").Replace(fmt.Sprintf("%s %s %s", c.from, c.passed, c.listen)), func(t *testing.T) {
			t.Parallel()
			m := startManager(t, filepath.Join(t.TempDir(), "notify"))
			config, port, admin := configureListen(t, "", c.listen)
			sockets := map[string]*os.File{c.from: bindSocket(t, false, c.passed, port), c.from + "8": bindSocket(t, true, c.passed, port)}
			before := 0
			if c.from == stored {
				// The previous daemon has set SO_REUSEPORT, which lets other sockets bind the address.
				if err := unix.SetsockoptInt(int(sockets[stored+"8"].Fd()), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
					t.Fatal(err)
				}
				m.mu.Lock()
				m.store = sockets
				m.mu.Unlock()
				sockets, before = nil, c.want.passed
			}
			for _, f := range sockets {
				defer f.Close()
			}
			d := m.run(sockets, config, port, admin)
			families := reachableFamilies(port)
			if c.want.passed == 0 && c.from == unit { // the unit's socket stays open, and no process accepts from it
				families = c.want.families
			}
			if families != c.want.families {
				t.Errorf("HTTP is reached over %q", families)
			}
			sendDatagramsOver(t, d, c.want.families)
			if want := fmt.Sprintf("passed_sockets=%d ", c.want.passed); strings.Contains(strings.ReplaceAll(d.log(), "\n", " "), want) != (c.want.passed > 0) {
				t.Errorf("the log lacks %s, or has it although no passed socket is used", want)
			}
			until(t, fmt.Sprintf("%d sockets are stored", before+c.want.bound+1), func() bool { return m.storedCount() == before+c.want.bound+1 }) // and that of admin
			if c.passed == "dual" && c.from == unit && !strings.HasPrefix(c.listen, ":") && !strings.Contains(c.listen, ",") &&
				!strings.Contains(d.log(), "takes both IPv4 and IPv6") {
				t.Error("the unit's additional family is not logged")
			}
			d.stop()
		})
	}
}

// Another program that listens on ::1 would get the usages of clients that prefer IPv6.
func TestAPortThatIsTakenInOneFamilyIsAnError(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		config, port, _ := configureListen(t, "", "localhost:PORT")
		ln, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err != nil {
			t.Fatal(err)
		}
		out, err := command(t, "run", "--config", config).CombinedOutput()
		ln.Close()
		if err == nil || !strings.Contains(string(out), "http.listen: listen tcp") || !strings.Contains(string(out), "address already in use") {
			t.Errorf("%s: %v\n%s", host, err, out)
		}
	}
}

func TestPort0IsOnePortForBothFamilies(t *testing.T) {
	config, port, admin := configureListen(t, "", "localhost:0")
	d := start(t, config, port, admin)
	_, text, _ := strings.Cut(d.log(), "http=\"127.0.0.1:")
	http, text, ok := strings.Cut(text, ", ")
	if !ok || !strings.HasPrefix(text, "[::1]:"+http+"\"") {
		t.Errorf("the ports of HTTP differ: %s", d.log())
	}
	_, text, _ = strings.Cut(text, "udp=\"127.0.0.1:")
	udp, text, ok := strings.Cut(text, ", ")
	if !ok || !strings.HasPrefix(text, "[::1]:"+udp+"\"") {
		t.Errorf("the ports of UDP differ: %s", d.log())
	}
}

// bindExcept binds all addresses except those in lacking, and returns their error there.
func bindExcept(lacking map[string]error) func(config.Address) ([]*net.TCPListener, error) {
	return func(a config.Address) ([]*net.TCPListener, error) {
		if err := lacking[a.IP.Addr().String()]; err != nil {
			return nil, &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", err)}
		}
		ln, err := net.ListenTCP("tcp4", nil)
		if err != nil {
			return nil, err
		}
		return []*net.TCPListener{ln}, nil
	}
}

// TestAMissingFamilyIsLeftOut simulates a host without an address family.
// TestDefaultConfigurationStartsWithOneFamily runs in a network namespace without one.
func TestAMissingFamilyIsLeftOut(t *testing.T) {
	at := func(ip, name string) config.Address {
		return config.Address{Network: "tcp", IP: netip.AddrPortFrom(netip.MustParseAddr(ip), 1), Name: name}
	}
	localhost := []config.Address{at("127.0.0.1", "localhost:1"), at("::1", "localhost:1")}
	for name, c := range map[string]struct {
		entry   []config.Address
		lacking map[string]error
		missing []string
		fails   error
	}{
		"nothing":                    {localhost, nil, nil, nil},
		"no IPv6 in the kernel":      {localhost, map[string]error{"::1": syscall.EAFNOSUPPORT}, []string{"tcp [::1]:1"}, nil},
		"IPv6 switched off":          {localhost, map[string]error{"::1": syscall.EADDRNOTAVAIL}, []string{"tcp [::1]:1"}, nil},
		"no IPv4":                    {localhost, map[string]error{"127.0.0.1": syscall.EADDRNOTAVAIL}, []string{"tcp 127.0.0.1:1"}, nil},
		"neither":                    {localhost, map[string]error{"127.0.0.1": syscall.EADDRNOTAVAIL, "::1": syscall.EAFNOSUPPORT}, nil, syscall.EADDRNOTAVAIL},
		"one missing, one taken":     {localhost, map[string]error{"127.0.0.1": syscall.EADDRINUSE, "::1": syscall.EAFNOSUPPORT}, nil, syscall.EADDRINUSE},
		"taken":                      {localhost, map[string]error{"::1": syscall.EADDRINUSE}, nil, syscall.EADDRINUSE},
		"not allowed":                {localhost, map[string]error{"::1": syscall.EACCES}, nil, syscall.EACCES},
		"an address written out":     {[]config.Address{at("::1", "")}, map[string]error{"::1": syscall.EAFNOSUPPORT}, nil, syscall.EAFNOSUPPORT},
		"an address of another host": {[]config.Address{at("192.0.2.1", "")}, map[string]error{"192.0.2.1": syscall.EADDRNOTAVAIL}, nil, syscall.EADDRNOTAVAIL},
	} {
		l := &listeners{}
		bound, err := bindEntry(l, c.entry, bindExcept(c.lacking))
		for _, ln := range bound {
			ln.Close()
		}
		if !errors.Is(err, c.fails) || (err == nil) != (len(bound)+len(c.missing) == len(c.entry)) || !slices.Equal(l.missing, c.missing) {
			t.Errorf("%s: %d bound, missing %q, %v", name, len(bound), l.missing, err)
		}
	}
}
