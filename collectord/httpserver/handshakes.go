package httpserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"collectord/collectord/auth"
)

// maxHandshake is how many bytes a handshake reads from a client. A ClientHello has about
// 2 KiB and a certificate chain 5 KiB; package crypto/tls would buffer up to 256 KiB for
// each handshake.
const maxHandshake = 16 << 10

// handshakeLimit is a connection that limits the bytes read until the handshake is over.
type handshakeLimit struct {
	net.Conn
	bytesLeft int // bytes that may still be read
	done      bool
}

var errLongHandshake = errors.New("the handshake is too long")

func (l *handshakeLimit) Read(p []byte) (int, error) {
	if l.done {
		return l.Conn.Read(p)
	}
	if l.bytesLeft <= 0 {
		return 0, errLongHandshake
	}
	n, err := l.Conn.Read(p[:min(len(p), l.bytesLeft)])
	l.bytesLeft -= n
	return n, err
}

// SetWriteDeadline does nothing. A connection has the one deadline of its state, and
// package crypto/tls would set another one for its close_notify.
func (*handshakeLimit) SetWriteDeadline(time.Time) error { return nil }

// startTLS makes c a TLS connection. The handshake runs later, on the connection's own
// goroutine and with its deadlines.
func (c *conn) startTLS(config *tls.Config) {
	c.handshake = &handshakeLimit{Conn: c.raw, bytesLeft: maxHandshake}
	c.secure = tls.Server(c.handshake, config)
	c.net = c.secure
}

// doHandshake runs the handshake. It logs and counts a failure itself, because no request
// exists that could be answered.
func (c *conn) doHandshake() error {
	c.enter(stateHandshake)
	done := make(chan error, 1)
	go func() { done <- c.secure.Handshake() }() // the handshake needs a deep stack, which the connection's goroutine would keep
	err := <-done
	if err != nil {
		if !c.dropped.Load() { // otherwise the server has closed the connection
			c.server.handshakeFailed(err)
			c.answerPlainHTTP(err)
		}
		return err
	}
	c.handshake.done = true
	c.enterKeepingDeadline(stateOpening)
	if c.peers = c.secure.ConnectionState().PeerCertificates; len(c.peers) > 0 {
		c.certificateName = auth.ClientOf(c.peers[0])
	}
	return nil
}

// answerPlainHTTP answers a client that sends plain HTTP to a TLS listener.
func (c *conn) answerPlainHTTP(err error) {
	var other tls.RecordHeaderError
	if _ = errors.As(err, &other); other.Conn == nil {
		return
	}
	p := &problem{code: CodeBadRequest, detail: "this address speaks TLS: use https"}
	c.server.statuses[p.status()].Add(1)
	c.clientMaySend = true
	c.enter(stateWriting)
	_, _ = c.raw.Write(c.server.rawResponse(p)) // a client that is gone needs no answer
}

// handshakes counts failed handshakes by reason.
type handshakes [len(handshakeFailures)]atomic.Uint64

// Reasons of failed handshakes; handshakeFailures has their names in logs and metrics.
const (
	handshakeTimeout     = iota
	handshakeClosed      // closed by the client
	handshakeRefused     // refused by the client, which does not trust the certificate or shares no version or cipher
	handshakeUncertified // the client has no certificate, or none that is trusted
	handshakeNotTLS      // the client does not speak TLS, but perhaps plain HTTP
	handshakeProtocol    // no version, cipher or protocol in common, or a protocol error
)

var handshakeFailures = [...]string{ //nolint:gochecknoglobals // a constant table
	handshakeTimeout: "timeout", handshakeClosed: "closed", handshakeRefused: "refused", handshakeUncertified: "client_certificate", handshakeNotTLS: "not_tls", handshakeProtocol: "protocol",
}

// HandshakeFailures returns how many TLS handshakes failed, by reason.
func (h *Server) HandshakeFailures() map[string]uint64 {
	m := map[string]uint64{}
	for why, name := range handshakeFailures {
		m[name] = h.handshakes[why].Load()
	}
	return m
}

func (h *Server) handshakeFailed(err error) {
	why, detail := handshakeFailure(err)
	h.handshakes[why].Add(1)
	h.opts.Logger.Warn("TLS handshakes fail", "trouble", "handshake", "reason", handshakeFailures[why], "error", detail)
}

// handshakeFailure returns the reason and a detail without the client's bytes or address,
// which an error may contain.
func handshakeFailure(err error) (why int, detail string) {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case isTimeout(err):
		return handshakeTimeout, "the handshake must end within http.header_timeout, or sooner if another connection needs its place"
	case errors.As(err, &certificate):
		return handshakeUncertified, certificateFailure(certificate.Err)
	case strings.Contains(err.Error(), "didn't provide a certificate"): // crypto/tls has no error type for it
		return handshakeUncertified, "the client presented no certificate"
	case errors.As(err, &record):
		return handshakeNotTLS, "the client does not speak TLS"
	case errors.Is(err, errLongHandshake):
		return handshakeProtocol, errLongHandshake.Error()
	case errors.As(err, &op) && op.Op == "remote error":
		return handshakeRefused, op.Err.Error()
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return handshakeClosed, "the client closed the connection"
	}
	return handshakeProtocol, "client and server have no version, cipher or protocol in common, or the client made a mistake"
}

// certificateFailure returns why a certificate is not trusted, without its content.
func certificateFailure(err error) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the client's certificate has expired, or is not valid yet"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "the client's certificate is not one for clients"
	case errors.As(err, &unknown):
		return "the client's certificate was signed by none of http.tls.client_ca"
	}
	return "the client's certificate is not valid"
}
