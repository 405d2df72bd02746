//go:build torture

package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	groupLimitBytes = 192 << 20 // bytes of the memory cgroup
	plainConns      = 10_000
	tlsConns        = 1024
	maxIdleMemory   = 24 << 20 // memory of plainConns idle connections
	minAttackTime   = 25 * time.Second
)

// slowness is for a machine that translates instructions.
var slowness = flag.Int("slowness", 1, "how many times slower than usual the machine is: the siege of the small cgroup waits so many times longer")

// scaled returns a time on a machine of this slowness.
func scaled(t time.Duration) time.Duration { return t * time.Duration(*slowness) }

// heldConn is a connection of a stranger that reconnects whenever it is closed.
type heldConn struct {
	network, addr string
	tls           *tls.Config
	send          string
	neverReads    bool // does not read answers

	conn net.Conn
}

// reconnect connects, sends as much as possible without a long wait, and returns the
// descriptor.
func (p *heldConn) reconnect() (fd int32) {
	if p.conn != nil {
		p.conn.Close()
	}
	c, err := net.DialTimeout(p.network, p.addr, scaled(2*time.Second))
	if p.conn = c; err != nil {
		p.conn = nil
		return -1 // poll ignores a negative descriptor
	}
	if tcp, ok := c.(*net.TCPConn); ok && p.neverReads {
		_ = tcp.SetReadBuffer(4 << 10)
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1
	}
	_ = raw.Control(func(n uintptr) { fd = int32(n) })
	if p.tls != nil {
		c = tls.Client(c, p.tls)
		_ = c.SetDeadline(time.Now().Add(scaled(2 * time.Second)))
		if c.(*tls.Conn).Handshake() != nil {
			return -1
		}
	}
	_ = c.SetDeadline(time.Now().Add(scaled(2 * time.Millisecond)))
	_, _ = io.WriteString(c, p.send)
	return fd
}

// holdAll opens all connections and reopens closed ones until the test ends.
func holdAll(conns []*heldConn, ended *atomic.Bool, tried *atomic.Int32) {
	fds := make([]unix.PollFd, len(conns))
	for i := range fds {
		if ended.Load() {
			break
		}
		fds[i] = unix.PollFd{Fd: conns[i].reconnect(), Events: unix.POLLRDHUP}
		tried.Add(1)
	}
	for !ended.Load() {
		<-time.After(500 * time.Millisecond) // otherwise strangers would fill the listen queue
		if _, err := unix.Poll(fds, 0); err != nil {
			continue
		}
		for i := range fds {
			if ended.Load() {
				break
			}
			if fds[i].Fd < 0 || fds[i].Revents != 0 {
				fds[i] = unix.PollFd{Fd: conns[i].reconnect(), Events: unix.POLLRDHUP}
			}
		}
	}
	for _, p := range conns {
		if p.conn != nil {
			p.conn.Close()
		}
	}
}

// makeHeldConns makes n connections, alternating between the kinds.
func makeHeldConns(n int, network, addr string, config *tls.Config) (conns []*heldConn) {
	for i := range n {
		p := &heldConn{network: network, addr: addr, tls: config}
		if network == "tcp" { // each client address has only some ten thousand ports
			p.addr = fmt.Sprintf("127.0.0.%d:%s", 1+i%4, addr[strings.LastIndex(addr, ":")+1:])
		}
		switch i % 4 {
		case 0:
			p.send = usagesHeader + "X-Long: " + strings.Repeat("x", 7<<10)
		case 1:
			p.send = usagesHeader + "Content-Length: 2000000\r\n\r\n" + strings.Repeat(" ", 3<<10)
		case 2:
			p.send = usagesHeader + "Content-Length: 2000000\r\n\r\n" + strings.Repeat(" ", 63<<10)
		case 3:
			p.neverReads = true
			p.send = strings.Repeat(usagesHeader+"Content-Length: 7\r\n\r\nno JSON", 500)
		}
		conns = append(conns, p)
	}
	return conns
}

// TestTenThousandConnectionsFitIntoASmallCgroup runs the daemon in a memory cgroup.
// Strangers hold all of its connections: they send half a header or half a body, or read
// no answers. Datagrams arrive as fast as possible, and uploads continue. Plain connections
// use TCP, or a unix socket if TCP has TLS.
//
// In a cgroup of version 2 the memory does not suffice for all strangers, so fewer of them are
// connected at a time.
func TestTenThousandConnectionsFitIntoASmallCgroup(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < plainConns+tlsConns+500 {
		skipMissing(t, fmt.Sprintf("limit of open files above %d", plainConns+tlsConns+500))
	}
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plaintext", true: "and TLS"}[secure], func(t *testing.T) {
			dir := t.TempDir()
			config, port, admin := configure(t, dir, "wal: {when_full: drop_oldest, segment_size: 16MiB, seal_after: 1s}\nshutdown: {grace: 0s}\n")
			token, line := newToken(t, "ward-3")
			write(t, dir+"/tokens", line+"\n")
			replaceInFile(t, config, "http: {", fmt.Sprintf("http: {anonymous: true, tokens_file: %s/tokens, header_timeout: %v, body_grace: %[2]v, answer_timeout: %v, ", dir, scaled(5*time.Second), scaled(10*time.Second)))
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			network, plain := "tcp", addr
			url, transport := "http://"+addr+"/api/usages", &http.Transport{}
			var stranger *tls.Config
			if secure {
				ca := newAuthority(t, dir)
				ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(1000*time.Hour))
				network, plain = "unix", dir+"/http"
				replaceInFile(t, config, fmt.Sprintf("listen: '%s'}\nudp", addr), fmt.Sprintf("max_connections: %d, tls: {cert: %s/cert, key: %[2]s/key}, listen: ['0.0.0.0:%d', 'unix:%s']}\nudp", plainConns+tlsConns, dir, port, plain))
				url, transport = "https://"+addr+"/api/usages", ca.client("").Transport.(*http.Transport)
				stranger = &tls.Config{InsecureSkipVerify: true}
			} else {
				replaceInFile(t, config, fmt.Sprintf("listen: '%s'}\nudp", addr), fmt.Sprintf("listen: '0.0.0.0:%d'}\nudp", port))
			}
			group := memoryGroup(t, groupLimitBytes)
			d := startCommand(t, inGroup(group, command(t, "run", "--config", config)), port, admin)
			countsSockets := isVersion2(group)
			if !secure && !countsSockets {
				d.measureIdle(plainConns)
			}

			conns := makeHeldConns(plainConns, network, plain, nil)
			if secure {
				conns = append(conns, makeHeldConns(tlsConns, "tcp", addr, stranger)...)
			}
			s := &attack{t: t, d: d}
			var dialed atomic.Int32
			const holders = 8
			for i := range holders {
				var own []*heldConn
				for n := i; n < len(conns); n += holders {
					own = append(own, conns[n])
				}
				s.running.Go(func() { holdAll(own, &s.over, &dialed) })
			}
			s.running.Go(s.sendDatagrams)
			t.Cleanup(func() { s.over.Store(true); s.running.Wait() })
			began := time.Now()
			peaks := &peakMemory{}
			s.running.Go(func() {
				for ; !s.over.Load(); <-time.After(500 * time.Millisecond) {
					peaks.add(group)
				}
			})
			var served, tried atomic.Int32
			failures := postFailures{}
			var clients sync.WaitGroup
			for range 4 {
				clients.Go(func() {
					for !s.over.Load() {
						own := transport.Clone()
						client := &http.Client{Transport: own, Timeout: scaled(20 * time.Second)}
						tried.Add(1)
						if failures.count(tryPostAs(t, client, url, token)) {
							served.Add(1)
						}
						own.CloseIdleConnections()
						<-time.After(50 * time.Millisecond)
					}
				})
			}
			for int(dialed.Load()) < len(conns) {
				<-time.After(50 * time.Millisecond)
				if n := oomKills(t, group); n > 0 {
					t.Fatalf("%d OOM kills after %d connections; the cgroup: %v", n, dialed.Load(), peaks.String())
				}
				if time.Since(began) > scaled(testTimeout) {
					if countsSockets {
						break
					}
					t.Fatalf("only %d connections were dialed in %v", dialed.Load(), testTimeout)
				}
			}
			t.Logf("%d connections were dialed in %v; %d of %d clients served meanwhile", dialed.Load(), time.Since(began).Round(time.Millisecond), served.Load(), tried.Load())

			var open, over float64
			reached := func() bool {
				return served.Load() >= 10 && (countsSockets || open >= plainConns*95/100 && (!secure || over >= tlsConns*9/10))
			}
			// On a busy machine the attack takes longer than minAttackTime.
			for began := time.Now(); time.Since(began) < minAttackTime || !reached() && time.Since(began) < scaled(testTimeout); <-time.After(200 * time.Millisecond) {
				m, err := d.scrape()
				if err != nil {
					s.over.Store(true)
					s.running.Wait()
					t.Fatalf("%v; %.0f connections; the cgroup: %v; %d OOM kills", err, open, peaks.String(), oomKills(t, group))
				}
				open, over = max(open, m["collectord_http_connections"]), max(over, m["collectord_http_tls_connections"])
			}
			m, kernel := d.metrics(), tcpMemory(t)
			s.over.Store(true)
			s.running.Wait()
			clients.Wait()
			t.Logf("%.0f connections, %.0f over TLS; %v; the cgroup: %v; TCP of the whole machine %d MiB; %d of %d clients served%v; %.0f usages shipped, %.0f connections turned away, %.0f closed for memory",
				open, over, d.memory(), peaks.String(), kernel>>20, served.Load(), tried.Load(), &failures, m["collectord_usages_shipped_total"], m["collectord_http_connections_turned_away_total"], m["collectord_http_connections_closed_for_memory_total"])
			if n := oomKills(t, group); n > 0 {
				t.Errorf("%d OOM kills", n)
			}
			if !countsSockets && (open < plainConns*95/100 || secure && over < tlsConns*9/10) {
				t.Error("not all connections were opened")
			}
			if served.Load()*2 < tried.Load() || served.Load() < 10 { // a busy machine may serve fewer
				t.Errorf("%d of %d clients were served", served.Load(), tried.Load())
			}
			if m["collectord_usages_shipped_total"] == 0 {
				t.Error("nothing was uploaded meanwhile")
			}
			d.stop()
		})
	}
}

// postFailures counts posts that were not stored, by what the client was told.
type postFailures struct {
	mu     sync.Mutex // guards counts
	counts map[string]int
}

// count reports whether a post was stored, and counts it otherwise.
func (p *postFailures) count(status int, err error) (stored bool) {
	var timeout interface{ Timeout() bool }
	why := fmt.Sprint("status ", status)
	switch {
	case status == http.StatusCreated:
		return true
	case errors.As(err, &timeout) && timeout.Timeout():
		why = "no answer in time"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		why = "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		why = "closed"
	case err != nil:
		why = err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts == nil {
		p.counts = map[string]int{}
	}
	p.counts[why]++
	return false
}

func (p *postFailures) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.counts) == 0 {
		return ""
	}
	return fmt.Sprintf(" (not served: %v)", p.counts)
}

// measureIdle measures the memory of n idle connections.
func (d *daemon) measureIdle(n int) {
	d.t.Helper()
	client := &http.Client{Timeout: testTimeout}
	for range 100 {
		if got := postAs(d.t, client, d.url(), ""); got != http.StatusCreated {
			d.t.Fatal(got)
		}
	}
	client.CloseIdleConnections()
	before := d.memory()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.%d:%d", 1+i%4, d.port))
		if err != nil {
			d.t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			d.t.Fatal(err)
		}
		if status, err := readAnswer(bufio.NewReaderSize(c, 512)); status != http.StatusOK {
			d.t.Fatal(status, err)
		}
	}
	after := d.memory()
	d.t.Logf("%d idle connections: RSS %d KiB -> %d KiB", d.connections(), before.now>>10, after.now>>10)
	if more := after.now - before.now; more > maxIdleMemory {
		d.t.Errorf("%d idle connections take %d KiB more", n, more>>10)
	}
}

// tcpMemory returns the kernel's memory for TCP sockets in bytes.
func tcpMemory(t *testing.T) int {
	t.Helper()
	return readNumber(t, "/proc/thread-self/net/sockstat", `TCP: .* mem (\d+)`) * os.Getpagesize()
}
