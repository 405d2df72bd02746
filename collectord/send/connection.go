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

// idle is how long a connection may be unused before it is looked at first.
const idle = time.Second

// connection is a connection for one request at a time. It is made, and made
// anew, when it is needed.
type connection struct {
	target  target
	tls     *tls.Config
	timeout time.Duration
	counts  *counts

	conn     net.Conn // nil: none
	raw      syscall.RawConn
	answers  answerReader
	used     time.Time // last
	deadline time.Time
	received int64 // not yet counted
}

// Read counts what is read. It is for the answers alone.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.conn.Read(b)
	c.received += int64(n)
	return n, err
}

func (c *connection) dial(ctx context.Context) error {
	d := net.Dialer{Timeout: c.timeout}
	conn, err := d.DialContext(ctx, c.target.network, c.target.address)
	if err != nil {
		return err
	}
	raw, err := conn.(syscall.Conn).SyscallConn() //nolint:forcetypeassert // as all of package net
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
	c.conn, c.raw, c.used, c.deadline = conn, raw, time.Now(), time.Time{}
	c.answers.reset(c)
	return nil
}

func (c *connection) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// exchange sends a request and reads the answer, which lasts until the next. A
// request under way when ctx ends is finished.
func (c *connection) exchange(ctx context.Context, request []byte) (a answer, err error) {
	now := time.Now()
	if c.conn != nil && now.Sub(c.used) > idle && !c.alive() {
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
		c.counts.bytesReceived.Add(c.received)
		c.received = 0
	}()
	// A deadline costs a call into the runtime's timers, so it is rarely moved.
	if c.deadline.Sub(now) < c.timeout*7/8 {
		c.deadline = now.Add(c.timeout)
		if err := c.conn.SetDeadline(c.deadline); err != nil {
			return a, err
		}
	}
	n, failed := c.conn.Write(request)
	c.counts.requests.Add(1)
	c.counts.bytesSent.Add(int64(n))
	if failed != nil { // an answer may have come before all was sent
		_ = c.conn.SetDeadline(now.Add(min(c.timeout, time.Second)))
	}
	if a, err = c.answers.read(); err != nil {
		if failed != nil {
			return a, failed
		}
		return a, err
	}
	c.used = time.Now()
	if failed != nil || a.last {
		c.close()
	}
	return a, nil
}

// alive reports whether the other side has neither closed the connection nor sent
// anything that was not asked for.
func (c *connection) alive() bool {
	alive := false
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		alive = errors.Is(err, unix.EAGAIN)
	})
	return alive && err == nil
}

// reasonOf names what happened, without address or port, so that errors can be
// counted.
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
