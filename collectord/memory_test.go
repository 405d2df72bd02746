//go:build torture

package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxMemory bounds the daemon's memory with every limit reached at once. With TLS the bound
// is higher, since the library keeps 24 KiB for each connection. The measured memory must
// stay below the bound by a margin, since runs differ.
const (
	maxMemory    = 128 << 20
	extraForTLS  = maxCrowd * 24 << 10
	memoryMargin = 8 << 20
)

const (
	attackDuration  = 25 * time.Second
	slowAttackers   = 1020 // slow clients: with the fast ones, more than http.max_connections
	maxKeys         = 1 << 16
	maxBodyRecords  = 100_000
	maxDecodedBytes = 16 << 20
	maxSentBytes    = 4 << 20
	usagesHeader    = "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
)

// TestEveryLimitReachedAtOnceTakesLittleMemory makes the daemon use as much memory as
// strangers can. It has the default configuration except for 1,024 connections, and four
// decoders. It runs in plaintext, and over TLS, which takes more for each connection.
func TestEveryLimitReachedAtOnceTakesLittleMemory(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plaintext", true: "TLS"}[secure], func(t *testing.T) {
			dir := t.TempDir()
			// The log evicts usages that are shipped too late, so that it refuses none.
			config, port, admin := configure(t, dir, "wal: {when_full: drop_oldest}\nshutdown: {grace: 0s}\n")
			replaceInFile(t, config, "http: {", fmt.Sprintf("http: {max_connections: %d, ", maxCrowd))
			s := &attack{t: t, bodies: costlyRequests(t), answers: map[string]int{}, stored: map[string]bool{}}
			if secure {
				ca := newAuthority(t, dir)
				ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(1000*time.Hour))
				replaceInFile(t, config, "http: {", fmt.Sprintf("http: {tls: {cert: %s/cert, key: %[1]s/key}, ", dir))
				s.tls = &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true} // TLS records of the maximum size
			}
			run := command(t, "run", "--config", config)
			run.Env = append(os.Environ(), "GOMAXPROCS=6") // as on a host with four processors
			s.d = startCommand(t, run, port, admin)
			s.fillWindow()
			s.run()
			s.d.stop()
		})
	}
}

// attack has all kinds of costly clients at once.
type attack struct {
	t      *testing.T
	d      *daemon
	tls    *tls.Config
	bodies []costlyRequest

	turn    atomic.Int32 // index of the body that is sent; beyond the last index, all are sent
	over    atomic.Bool
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	answers map[string]int
	stored  map[string]bool
}

// record counts the result of sending a body.
func (s *attack) record(name string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[fmt.Sprintf("%s: %d", name, status)]++
	if status == http.StatusCreated {
		s.stored[name] = true
	}
}

// costlyRequest is a request that takes as much memory as possible.
type costlyRequest struct {
	name string
	head string
	body []byte
}

func costlyRequests(t *testing.T) []costlyRequest {
	lines := func(size, n int) []byte {
		line := `{"a":"` + strings.Repeat("x", size/n-len(`{"a":""}`)-1) + "\"}\n"
		return []byte(strings.Repeat(line, n))
	}
	decoded := lines(maxDecodedBytes, maxBodyRecords)
	var gz, zs bytes.Buffer
	wide, err := zstd.NewWriter(&zs, zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{gzip.NewWriter(&gz), wide} {
		if _, err := w.Write(decoded); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// A zstd frame with a single segment has a window as large as its content: 8 MiB.
	segment, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	const ids = "Prefer: return=representation\r\n"
	return []costlyRequest{
		{"records", "", lines(maxSentBytes, maxBodyRecords)},
		{"records, ids wanted", ids, lines(maxSentBytes, maxBodyRecords)},
		{"zstd, 8 MiB window", "Content-Encoding: zstd\r\n", zs.Bytes()},
		{"gzip", "Content-Encoding: gzip\r\n", gz.Bytes()},
		{"zstd, one segment, with a key", "Content-Encoding: zstd\r\nIdempotency-Key: k\r\n", segment.EncodeAll(decoded[:len(decoded)/2], nil)},
	}
}

func (s *attack) dial() (net.Conn, error) {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.d.port))
	if err != nil || s.tls == nil {
		return c, err
	}
	return tls.Client(c, s.tls), nil
}

// fillWindow fills the daemon's window of idempotency keys.
func (s *attack) fillWindow() {
	var clients sync.WaitGroup
	const conns = 16
	for n := range conns {
		clients.Go(func() {
			c, err := s.dial()
			if err != nil {
				s.t.Error(err)
				return
			}
			defer c.Close()
			answers := bufio.NewReader(c)
			for from := 0; from < maxKeys/conns; from += 64 {
				var b bytes.Buffer
				for i := range 64 {
					fmt.Fprintf(&b, usagesHeader+"Idempotency-Key: %d-%d\r\nContent-Length: 2\r\n\r\n{}", n, from+i)
				}
				if _, err := c.Write(b.Bytes()); err != nil {
					s.t.Error(err)
					return
				}
				for range 64 {
					if status, err := readAnswer(answers); status != http.StatusCreated {
						s.t.Error(status, err)
						return
					}
				}
			}
		})
	}
	clients.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
}

func readAnswer(from *bufio.Reader) (status int, err error) {
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// run attacks the daemon and measures its memory.
func (s *attack) run() {
	t, d := s.t, s.d
	for i := range 3 * len(s.bodies) {
		s.running.Go(func() { s.repeatRequest(i % len(s.bodies)) })
	}
	for i := range slowAttackers {
		s.running.Go(func() {
			for !s.over.Load() {
				s.holdSlowly(i)
			}
		})
	}
	for range 2 {
		s.running.Go(s.sendDatagrams)
	}
	seen := map[string]float64{}
	var curve []string
	began := time.Now()
	for turned := began; !s.allAtOnce() || time.Since(turned) < attackDuration/2; {
		m, err := d.scrape()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"collectord_http_connections", "collectord_wal_queue_bytes", "collectord_shipper_in_flight"} {
			seen[name] = max(seen[name], m[name])
		}
		if !s.allAtOnce() && time.Since(turned) >= attackDuration/2/time.Duration(len(s.bodies)) && (s.isTurnStored() || time.Since(began) > testTimeout) {
			s.turn.Add(1)
			turned = time.Now()
		}
		if len(curve) <= int(time.Since(began).Seconds()) {
			curve = append(curve, strconv.Itoa(d.memory().now>>20))
		}
		<-time.After(50 * time.Millisecond)
	}
	m, f := d.metrics(), d.memory()
	s.over.Store(true)
	s.running.Wait()
	refused, dropped := m[`collectord_usages_rejected_total{reason="overloaded",source="http"}`], m[`collectord_usages_rejected_total{reason="overloaded",source="udp"}`]
	t.Logf("%v\nRSS second by second: %s\nlargest bodies: %v; no room for %.0f bodies, and for the usages of %.0f datagrams; at most %v",
		f, strings.Join(curve, " "), s.answers, refused, dropped, seen)
	limit := maxMemory - memoryMargin
	if s.tls != nil {
		limit += extraForTLS
	}
	if f.peak > limit {
		t.Errorf("the daemon took %d MiB at most (VmHWM)", f.peak>>20)
	}
	// The attack must have reached every limit.
	if seen["collectord_http_connections"] < 1000 || seen["collectord_wal_queue_bytes"] < 7<<20 || seen["collectord_shipper_in_flight"] < 2 ||
		refused == 0 || dropped == 0 || len(s.stored) < len(s.bodies) {
		t.Error("not every limit was reached")
	}
}

// isTurnStored reports whether the current body was stored. Storing takes longer on a busy
// machine.
func (s *attack) isTurnStored() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored[s.bodies[s.turn.Load()].name]
}

// allAtOnce reports whether all bodies are sent at once. Before that they take turns, since
// the largest would get no memory otherwise.
func (s *attack) allAtOnce() bool { return int(s.turn.Load()) >= len(s.bodies) }

// repeatRequest sends one body again and again.
func (s *attack) repeatRequest(kind int) {
	b := s.bodies[kind]
	request := append(fmt.Appendf(nil, usagesHeader+b.head+"Content-Length: %d\r\n\r\n", len(b.body)), b.body...)
	for !s.over.Load() {
		if !s.allAtOnce() && int(s.turn.Load()) != kind {
			<-time.After(20 * time.Millisecond)
			continue
		}
		c, err := s.dial()
		if err != nil {
			s.t.Error(err)
			return
		}
		answers := bufio.NewReader(c)
		for !s.over.Load() && (s.allAtOnce() || int(s.turn.Load()) == kind) {
			_, err := c.Write(request)
			status, readErr := readAnswer(answers)
			s.record(b.name, status)
			if err != nil || readErr != nil || status != http.StatusCreated {
				break // a refusal during the body ends the connection
			}
		}
		c.Close()
	}
}

// holdSlowly holds a connection and its memory until the daemon closes it.
func (s *attack) holdSlowly(i int) {
	c, err := s.dial()
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.Close()
	held := func(size int) string {
		return usagesHeader + "Content-Length: 2000000\r\n\r\n" + strings.Repeat(" ", size)
	}
	kind, size := i%12, 16<<10
	if !s.allAtOnce() { // the largest bodies need this memory
		size = 4 << 10
		if kind == 2 || kind == 3 || kind == 1 && i%36 != 1 {
			kind = -1
		}
	}
	switch kind {
	case 0:
		_, err = io.WriteString(c, usagesHeader+"X-Long: "+strings.Repeat("x", 7<<10))
	case 1, 2:
		_, err = io.WriteString(c, held(63<<10))
	case 3: // requests answers and does not read them
		raw := c
		if over, ok := c.(*tls.Conn); ok {
			raw = over.NetConn()
		}
		_ = raw.(*net.TCPConn).SetReadBuffer(4 << 10)
		request := fmt.Sprintf(usagesHeader+"Prefer: return=representation\r\nContent-Length: %d\r\n\r\n", 6000) + strings.Repeat("{}\n", 2000)
		for err == nil && !s.over.Load() {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, err = io.WriteString(c, request)
		}
		return
	case 4:
		if over, ok := c.(*tls.Conn); ok {
			_, err = io.WriteString(over.NetConn(), "\x16\x03\x01\x40\x00\x01\x00\xff\x00\x03\x03"+strings.Repeat("x", 15<<10))
			c = over.NetConn()
			break
		}
		fallthrough
	default:
		_, err = io.WriteString(c, held(size-10))
	}
	for err == nil && !s.over.Load() {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err = io.Copy(io.Discard, c); err == nil {
			return // the daemon closed the connection
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
	}
}

// sendDatagrams sends datagrams without a pause, with many small usages or one of the
// maximum size.
func (s *attack) sendDatagrams() {
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", s.d.port))
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.Close()
	many := []byte(strings.Repeat(usageText(1, "udp"), 14))
	large := []byte(`{"a":"` + strings.Repeat("x", 60<<10) + `"}`)
	for n := 0; !s.over.Load(); n++ {
		datagram := many
		if n%16 == 0 {
			datagram = large
		}
		_, _ = c.Write(datagram) // the daemon's metrics count lost datagrams
	}
}
