package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/testrun"
	"collectord/collectord/udpserver"
)

// manager stores sockets and passes them on, as a service manager does.
type manager struct {
	t      *testing.T
	socket string
	conn   *net.UnixConn

	mu        sync.Mutex // guards what follows
	store     map[string]*os.File
	status    string
	watchdogs int      // WATCHDOG=1 messages
	messages  []string // all other messages
}

func startManager(t *testing.T, socket string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, socket: socket, conn: conn, store: map[string]*os.File{}}
	ended := make(chan struct{})
	go func() { defer close(ended); m.listen() }()
	t.Cleanup(func() {
		conn.Close()
		<-ended
		m.closeStore()
	})
	return m
}

func (m *manager) listen() {
	for {
		text, rights := make([]byte, 4<<10), make([]byte, 1<<10)
		n, nr, _, _, err := m.conn.ReadMsgUnix(text, rights)
		if err != nil {
			return
		}
		m.receive(strings.Split(string(text[:n]), "\n"), rights[:nr])
	}
}

func (m *manager) receive(lines []string, rights []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := ""
	for _, s := range lines {
		if n, ok := strings.CutPrefix(s, "FDNAME="); ok {
			name = n
		}
	}
	switch lines[0] {
	case "FDSTORE=1":
		messages, err := unix.ParseSocketControlMessage(rights)
		if err != nil || len(messages) != 1 {
			m.t.Errorf("%d messages, %v", len(messages), err)
			return
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 || m.store[name] != nil || name == "" || strings.Contains(name, ":") {
			m.t.Errorf("%d descriptors, name %q, %v", len(fds), name, err)
			return
		}
		m.store[name] = os.NewFile(uintptr(fds[0]), name)
	case "FDSTOREREMOVE=1":
		if m.store[name] == nil {
			m.t.Errorf("%q is removed but not stored", name)
			return
		}
		m.store[name].Close()
		delete(m.store, name)
	default:
		lines = slices.DeleteFunc(lines, func(s string) bool {
			status, ok := strings.CutPrefix(s, "STATUS=")
			if ok {
				m.status = status
			}
			if s == "WATCHDOG=1" {
				m.watchdogs++
				ok = true
			}
			return ok
		})
		if len(lines) > 0 {
			m.messages = append(m.messages, strings.Join(lines, "\n"))
		}
	}
}

// receiveSent waits until the messages that were sent before the call are received.
func (m *manager) receiveSent() {
	m.t.Helper()
	const mark = "X_MARK=1"
	if err := notifier(m.socket).send(mark); err != nil {
		m.t.Fatal(err)
	}
	until(m.t, "the manager receives the messages", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		i := slices.Index(m.messages, mark)
		if i >= 0 {
			m.messages = slices.Delete(m.messages, i, i+1)
		}
		return i >= 0
	})
}

func (m *manager) lastStatus() (status string, watchdogSignals int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status, m.watchdogs
}

// closeStore closes all stored sockets, as happens when a service is stopped.
func (m *manager) closeStore() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.store {
		f.Close()
	}
	clear(m.store)
}

func (m *manager) storedCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.store)
}

// run starts the daemon.
func (m *manager) run(units map[string]*os.File, config string, port, admin int) *daemon {
	m.t.Helper()
	return startCommand(m.t, m.command(units, config), port, admin)
}

// command returns the command of a daemon that gets the sockets of units, by name, and the
// stored ones.
func (m *manager) command(units map[string]*os.File, config string) *exec.Cmd {
	m.t.Helper()
	run := command(m.t, "run", "--config", config)
	// Only the process that executes the daemon knows its process id.
	run.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, run.Path}, run.Args[1:]...)
	run.Path = "/bin/sh"
	m.mu.Lock()
	names := slices.Sorted(maps.Keys(units))
	for _, n := range names {
		run.ExtraFiles = append(run.ExtraFiles, units[n])
	}
	for _, n := range slices.Sorted(maps.Keys(m.store)) {
		run.ExtraFiles = append(run.ExtraFiles, m.store[n])
		names = append(names, n)
	}
	m.mu.Unlock()
	run.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.socket, "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	return run
}

// kernelQueue returns the bytes queued in the UDP sockets of a port, and the number of
// datagrams that the kernel dropped.
func kernelQueue(t *testing.T, port int) (queued, drops int) {
	t.Helper()
	table, err := os.ReadFile("/proc/thread-self/net/udp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // sl local_address rem_address st tx_queue:rx_queue … drops
		if len(f) < 13 || f[1] != fmt.Sprintf("0100007F:%04X", port) {
			continue
		}
		_, rx, _ := strings.Cut(f[4], ":")
		q, err1 := strconv.ParseInt(rx, 16, 64)
		n, err2 := strconv.Atoi(f[12])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		queued, drops = queued+int(q), drops+n
	}
	return queued, drops
}

// sendUntil sends numbered usages as datagrams until stop is closed, some thousand a second.
// It returns how many the kernel accepted.
func sendUntil(t *testing.T, port, from int, stop <-chan struct{}) (sent int) {
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer conn.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return sent
		case <-tick.C:
		}
		for range 20 {
			if _, err := conn.Write([]byte(usageText(from+sent, "udp"))); err != nil {
				t.Errorf("datagram %d: %v", sent, err)
				return sent
			}
			sent++
		}
	}
}

func TestNothingIsRefusedDuringRestarts(t *testing.T) {
	t.Parallel()
	const clients, enough, drain = 8, 400, 300 * time.Millisecond
	restarts := 8 / testrun.OneIn(3)
	m := startManager(t, filepath.Join(t.TempDir(), "notify"))
	config, port, admin := configure(t, t.TempDir(), "wal: {min_free: 0}\nshutdown: {grace: 0, drain: 300ms}\nshipper: {level: fastest}\n")
	replaceInFile(t, config, "udp: {", "udp: {sockets: 2, receive_buffer: 128KiB, ") // too small for the datagrams of a restart
	d := m.run(nil, config, port, admin)
	url := d.url()

	acks := &acknowledged{ids: map[int]string{}}
	stop, datagrams := make(chan struct{}), 0
	var running sync.WaitGroup
	// late counts requests that failed after a pause longer than the drain time. The daemon may
	// have closed the connection of such a client. A pause is measured from the start of the
	// previous request.
	var late atomic.Int64
	for c := range clients {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: c%2 == 0}, Timeout: testTimeout}
		running.Go(func() {
			defer client.CloseIdleConnections()
			for i, before := c, time.Now(); ; i += clients {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				switch err := acks.post(client, url, i); {
				case err != nil && time.Since(before) > drain && !errors.Is(err, syscall.ECONNREFUSED):
					late.Add(1)
				case err != nil:
					t.Errorf("usage %d: %v", i, err)
					return
				}
				before = began
			}
		})
	}
	running.Go(func() { datagrams = sendUntil(t, port, 1<<30, stop) })
	for range restarts {
		more := acks.count() + enough
		until(t, "enough usages are acknowledged", func() bool { return acks.count() >= more || t.Failed() })
		d.stop()
		d = m.run(nil, config, port, admin)
	}
	more := acks.count() + enough
	until(t, "enough usages are acknowledged", func() bool { return acks.count() >= more || t.Failed() })
	close(stop)
	running.Wait()
	last := d.metrics()
	d.stop()
	queued, drops := kernelQueue(t, port)
	if out, err := command(t, "ship", "--config", config).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	records, _ := download(t, config)
	udp := verifyAcknowledged(t, acks, records)
	if counted := int(last["collectord_udp_kernel_drops_total"]); counted != drops || queued != 0 || drops == 0 {
		t.Errorf("the kernel dropped %d, the daemon counted %d; %d bytes are unread", drops, counted, queued)
	}
	if more := len(records) - udp - len(acks.ids); udp+drops != datagrams || more < 0 || more > int(late.Load()) {
		t.Errorf("%d datagrams sent, %d stored, %d dropped by the kernel; %d usages acknowledged, %d stored", datagrams, udp, drops, len(acks.ids), len(records)-udp)
	}
	t.Logf("%d restarts: %d requests answered 201, %d came too late, none failed; %d datagrams sent, %d stored, %d dropped by the kernel", restarts, len(acks.ids), late.Load(), datagrams, udp, drops)
	if n := m.storedCount(); n != 4 {
		t.Errorf("%d sockets are stored", n)
	}
}

// The service manager keeps the sockets of a killed daemon open. Connections and datagrams
// that arrive meanwhile wait for the next daemon.
func TestKilledDaemonLeavesItsSocketsOpen(t *testing.T) {
	t.Parallel()
	m := startManager(t, filepath.Join(t.TempDir(), "notify"))
	config, port, admin := configure(t, t.TempDir(), "wal: {min_free: 0}\n")
	d := m.run(nil, config, port, admin)
	until(t, "the service manager stores the sockets", func() bool { return m.storedCount() == 2+udpSockets() })
	d.kill()

	const n = 50
	acks := &acknowledged{ids: map[int]string{}}
	posted := make(chan struct{})
	go func() { defer close(posted); d.post(acks, 0, n, n, false) }()
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range n {
		if _, err := conn.Write([]byte(usageText(n+i, "udp"))); err != nil {
			t.Fatal(err)
		}
	}
	d = m.run(nil, config, port, admin)
	<-posted
	until(t, "the datagrams are read", func() bool { return d.metrics()[`collectord_usages_appended_total{source="udp"}`] == n })
	d.stop()
	records, _ := download(t, config)
	if udp := verifyAcknowledged(t, acks, records); udp != n || len(acks.ids) != n {
		t.Errorf("%d of %d datagrams, %d of %d usages", udp, n, len(acks.ids), n)
	}
}

func udpSockets() int { return udpserver.Options{}.SocketsPerAddress() }

// TestSocketsFollowTheConfiguration changes the listen addresses between two daemons. Data
// that arrived at a removed address before the change is still read.
func TestSocketsFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	m := startManager(t, filepath.Join(t.TempDir(), "notify"))
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\n")
	other := freePorts(t, 1)[0]
	replaceInFile(t, config, fmt.Sprintf("udp: {listen: '127.0.0.1:%d'", port), fmt.Sprintf("udp: {sockets: 3, listen: ['127.0.0.1:%d', '127.0.0.1:%d']", port, other))
	replaceInFile(t, config, fmt.Sprintf("http: {listen: '127.0.0.1:%d'", port), fmt.Sprintf("http: {listen: ['127.0.0.1:%d', 'unix:%s/a', 'unix:%[2]s/b', 'unix:%[2]s/c']", port, dir))
	d := m.run(nil, config, port, admin)
	until(t, "the service manager stores the sockets", func() bool { return m.storedCount() == 5+6 })
	d.stop()

	const senders = 30 // distributed over the sockets
	for i := range senders {
		for _, p := range []int{port, other} {
			conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", p))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte(usageText(i+p*senders, "udp"))); err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
	}
	replaceInFile(t, config, "udp: {sockets: 3", "udp: {sockets: 2")
	replaceInFile(t, config, fmt.Sprintf(", '127.0.0.1:%d'", other), "")
	replaceInFile(t, config, fmt.Sprintf("'unix:%s/c'", dir), fmt.Sprintf("'unix:%s/d'", dir))
	replaceInFile(t, config, "http: {", "http: {socket_mode: 0606, ")
	if err := os.Remove(dir + "/b"); err != nil { // its socket is not reachable any more
		t.Fatal(err)
	}
	d = m.run(nil, config, port, admin)
	until(t, "the service manager stores the sockets", func() bool { return m.storedCount() == 5+2 })
	until(t, "the datagrams are read", func() bool { return d.metrics()[`collectord_usages_appended_total{source="udp"}`] == 2*senders })
	for _, name := range []string{"a", "b", "d"} {
		if got := postAs(t, unixClient(t, dir+"/"+name), "http://x/api/usages", ""); got != http.StatusCreated {
			t.Errorf("unix:%s answers %d", name, got)
		}
		if info, err := os.Stat(dir + "/" + name); err != nil || info.Mode().Perm() != 0o606 {
			t.Errorf("unix:%s: %v, %v", name, info.Mode(), err)
		}
	}
	if !strings.Contains(d.log(), "passed_sockets=5") { // http, unix:a, admin and two for UDP
		t.Error("the log lacks the number of passed sockets")
	}
	if c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: other}); err != nil {
		t.Errorf("the socket of a removed port is still open: %v", err)
	} else {
		c.Close()
	}
	d.stop()
}

// A wildcard conflicts with a single address of the same port, in both directions.
func TestConflictingSocketsAreClosedFirst(t *testing.T) {
	for from, to := range map[string]string{"127.0.0.1": "0.0.0.0", "0.0.0.0": "127.0.0.1"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			m := startManager(t, filepath.Join(t.TempDir(), "notify"))
			config, port, admin := configure(t, t.TempDir(), "wal: {min_free: 0}\n")
			listen := func(was, is string) {
				replaceInFile(t, config, was, "http: {anonymous: true, listen: '"+is)
				replaceInFile(t, config, strings.Replace(was, "http: {anonymous: true,", "udp: {allow: 127.0.0.0/8,", 1), "udp: {allow: 127.0.0.0/8, listen: '"+is)
			}
			replaceInFile(t, config, "http: {", "http: {anonymous: true, ")
			replaceInFile(t, config, "udp: {", "udp: {allow: 127.0.0.0/8, ")
			listen("http: {anonymous: true, listen: '127.0.0.1", from)
			d := m.run(nil, config, port, admin)
			until(t, "the service manager stores the sockets", func() bool { return m.storedCount() == 2+udpSockets() })
			d.stop()
			conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte(`{"a":1}`)); err != nil {
				t.Fatal(err)
			}
			conn.Close()
			listen("http: {anonymous: true, listen: '"+from, to)
			d = m.run(nil, config, port, admin)
			until(t, "the queued datagram is read", func() bool { return d.metrics()[`collectord_usages_appended_total{source="udp"}`] == 1 })
			d.post(&acknowledged{ids: map[int]string{}}, 0, 10, 2, false)
			d.send(10, 20)
			until(t, "the service manager stores the sockets", func() bool { return m.storedCount() == 2+udpSockets() })
			d.stop()
		})
	}
}

// Clients of a daemon that can't start are refused, since they might wait forever.
func TestAFailedStartKeepsNoClientWaiting(t *testing.T) {
	t.Parallel()
	m := startManager(t, filepath.Join(t.TempDir(), "notify"))
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\n")
	m.run(nil, config, port, admin).stop()
	until(t, "the service manager stores the sockets", func() bool { return m.storedCount() == 2+udpSockets() })

	// The first start fails because its data is locked. The second one fails earlier, because
	// the port for admin is taken.
	lock, err := os.Open(dir + "/data/LOCK")
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	fails := func() {
		t.Helper()
		run := m.command(nil, config)
		if out, err := run.CombinedOutput(); run.ProcessState.ExitCode() != 1 {
			t.Fatalf("%v: %s", err, out)
		}
		until(t, "the sockets for connections are removed", func() bool { return m.storedCount() == udpSockets() })
		// A socket still listens while it is in a message to the manager.
		until(t, "no connection waits", func() bool {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				c.Close()
			}
			return err != nil
		})
	}
	fails()
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", admin))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	fails()

	taken.Close()
	lock.Close()
	d := m.run(nil, config, port, admin)
	until(t, "the service manager stores the sockets", func() bool { return m.storedCount() == 2+udpSockets() })
	d.stop()
}

// TestSocketsOfAUnitAreUsed covers an operator's own socket unit.
func TestSocketsOfAUnitAreUsed(t *testing.T) {
	t.Parallel()
	m := startManager(t, filepath.Join(t.TempDir(), "notify"))
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\n")
	replaceInFile(t, config, fmt.Sprintf("http: {listen: '127.0.0.1:%d'", port), fmt.Sprintf("http: {socket_mode: 0600, listen: ['127.0.0.1:%d', 'unix:%s/http']", port, dir))
	units := map[string]*os.File{}
	passOn := func(name string, s interface{ File() (*os.File, error) }, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		units[name] = f
	}
	listen := func(network, address string) (*net.TCPListener, error) {
		ln, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { ln.Close() })
		return ln.(*net.TCPListener), nil
	}
	tcp, err := listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	passOn("a.socket", tcp, err)
	stray, err := listen("tcp", "127.0.0.1:0")
	passOn("stray.socket", stray, err)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}) // without SO_REUSEPORT
	passOn("b.socket", udp, err)
	local, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/http", Net: "unix"})
	passOn("c.socket", local, err)
	if err := os.Chmod(dir+"/http", 0o666); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", tcp.Addr().String()) // not a listening socket
	if err != nil {
		t.Fatal(err)
	}
	passOn("connection", client.(*net.TCPConn), nil)
	defer client.Close()
	if units["file"], err = os.Open(config); err != nil {
		t.Fatal(err)
	}
	defer units["file"].Close()

	for range 2 {
		d := m.run(units, config, port, admin)
		acks := &acknowledged{ids: map[int]string{}}
		d.post(acks, 0, 10, 2, false)
		d.send(10, 20)
		if got := postAs(t, unixClient(t, dir+"/http"), "http://x/api/usages", ""); got != http.StatusCreated {
			t.Errorf("the unix socket answers %d", got)
		}
		until(t, "only the admin socket is stored", func() bool { return m.storedCount() == 1 })
		for _, want := range []string{"name=stray.socket", "name=connection", "name=file"} {
			if !strings.Contains(d.log(), want) {
				t.Errorf("the log lacks %s", want)
			}
		}
		d.stop()
		info, err := os.Stat(dir + "/http")
		if err != nil || info.Mode().Perm() != 0o666 {
			t.Errorf("the unit's socket: %v, %v", info, err)
		}
	}
}
