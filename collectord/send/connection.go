package send

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// checkAfterIdle is how long a connection may be unused before it is checked first.
const checkAfterIdle = time.Second

// connection sends one request at a time. It is opened, and reopened, on demand.
type connection struct {
	target  target
	tls     *tls.Config
	timeout time.Duration
	counts  *counts

	conn           net.Conn // nil: none
	raw            syscall.RawConn
	responses      responseReader
	lastUsed       time.Time // time of the last response
	deadline       time.Time
	uncountedBytes int64 // bytes not yet added to counts
}

// Read counts received bytes. Only responses calls it.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.conn.Read(b)
	c.uncountedBytes += int64(n)
	return n, err
}

func (c *connection) dial(ctx context.Context) error {
	d := net.Dialer{Timeout: c.timeout}
	conn, err := d.DialContext(ctx, c.target.network, c.target.address)
	if err != nil {
		return err
	}
	raw, err := conn.(syscall.Conn).SyscallConn() //nolint:forcetypeassert // true for every connection of package net
	if err != nil {
		conn.Close()
		return err
	}
	if c.target.scheme == "https" {
		secure := tls.Client(conn, c.tls)
		within, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		if err := secure.HandshakeContext(within); err != nil {
			conn.Close()
			return err
		}
		conn = secure
	}
	c.conn, c.raw, c.lastUsed, c.deadline = conn, raw, time.Now(), time.Time{}
	c.responses.reset(c)
	return nil
}

func (c *connection) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// exchange sends a request and returns the response, whose body is valid until the next
// call. The end of ctx does not interrupt a request that was sent.
func (c *connection) exchange(ctx context.Context, request []byte) (a response, err error) {
	now := time.Now()
	if c.conn != nil && now.Sub(c.lastUsed) > checkAfterIdle && !c.alive() {
		c.close()
	}
	if c.conn == nil {
		if err := c.dial(ctx); err != nil {
			return a, err
		}
	}
	defer func() {
		if err != nil {
			c.close()
		}
		c.counts.bytesReceived.Add(c.uncountedBytes)
		c.uncountedBytes = 0
	}()
	// SetDeadline costs a call into the runtime's timers, so it is called rarely.
	if c.deadline.Sub(now) < c.timeout*7/8 {
		c.deadline = now.Add(c.timeout)
		if err := c.conn.SetDeadline(c.deadline); err != nil {
			return a, err
		}
	}
	n, writeErr := c.conn.Write(request)
	c.counts.requests.Add(1)
	c.counts.bytesSent.Add(int64(n))
	if writeErr != nil { // the server may have responded before it read the whole request
		_ = c.conn.SetDeadline(now.Add(min(c.timeout, time.Second)))
	}
	if a, err = c.responses.read(); err != nil {
		if writeErr != nil {
			return a, writeErr
		}
		return a, err
	}
	c.lastUsed = time.Now()
	if writeErr != nil || a.closes {
		c.close()
	}
	return a, nil
}

// alive reports whether the peer has neither closed the connection nor sent unexpected
// data.
func (c *connection) alive() bool {
	alive := false
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = errors.Is(err, unix.EAGAIN)
	})
	return alive && err == nil
}

// reasonOf classifies err without address or port, so that equal errors can be counted.
func reasonOf(err error) string {
	var network net.Error
	var errno syscall.Errno
	var certificate *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var alert tls.AlertError
	var name *net.DNSError
	switch {
	case errors.As(err, &name):
		return "the name does not resolve"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed without an answer"
	case errors.As(err, &certificate), errors.As(err, &unknown):
		return "the certificate is not trusted"
	case errors.As(err, &alert):
		return alert.Error()
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, errUnreadable):
		return errUnreadable.Error()
	}
	return "no connection"
}
