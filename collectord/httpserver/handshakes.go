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

// maxHandshake is how many bytes of a client a handshake takes. A hello has
// about 2 KiB, and a chain of certificates 5; the library would keep a quarter of
// a megabyte for each who begins.
const maxHandshake = 16 << 10

// handshakeLimit is a connection of which no more is read than may be, while
// there is a limit.
type handshakeLimit struct {
	net.Conn
	left int // bytes; below 0 once it is gone
	over bool
}

var errLongHandshake = errors.New("the handshake is too long")

func (l *handshakeLimit) Read(p []byte) (int, error) {
	if l.over {
		return l.Conn.Read(p)
	}
	if l.left <= 0 {
		return 0, errLongHandshake
	}
	n, err := l.Conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// SetWriteDeadline does nothing: a connection has the one deadline of its state, and TLS
// would set another one to take leave.
func (*handshakeLimit) SetWriteDeadline(time.Time) error { return nil }

// startTLS makes c a connection that speaks TLS from its first Read on, which is
// in the server's goroutine for it, and so with its deadlines.
func (c *conn) startTLS(config *tls.Config) {
	c.handshake = &handshakeLimit{Conn: c.raw, left: maxHandshake}
	c.secure = tls.Server(c.handshake, config)
	c.net = c.secure
}

// doHandshake tells of a failure itself: there is no request to answer.
func (c *conn) doHandshake() error {
	c.enter(stateHandshake)
	over := make(chan error, 1)
	go func() { over <- c.secure.Handshake() }() // on a stack so deep that the connection had better not keep it
	err := <-over
	if err != nil {
		c.server.handshakeFailed(err)
		c.answerPlainHTTP(err)
		return err
	}
	c.handshake.over = true
	c.carryOn(stateOpening)
	if c.peers = c.secure.ConnectionState().PeerCertificates; len(c.peers) > 0 {
		c.client = auth.ClientOf(c.peers[0])
	}
	return nil
}

// answerPlainHTTP answers who speaks plain HTTP.
func (c *conn) answerPlainHTTP(err error) {
	var other tls.RecordHeaderError
	if _ = errors.As(err, &other); other.Conn == nil {
		return
	}
	p := &problem{code: CodeBadRequest, detail: "this address speaks TLS: use https"}
	c.server.statuses[p.status()].Add(1)
	c.unread = true
	c.enter(stateWriting)
	_, _ = c.raw.Write(c.server.rawResponse(p)) // the client may be gone
}

// handshakes counts those that failed, by why.
type handshakes [len(handshakeFailures)]atomic.Uint64

// Why a handshake failed, as it is told.
const (
	handshakeTimeout     = iota
	handshakeClosed      // by the client
	handshakeRefused     // by the client, which does not trust the certificate or knows no version or cipher
	handshakeUncertified // no certificate of a client, or none that is trusted
	handshakeNotTLS      // plain HTTP, perhaps
	handshakeProtocol    // no version, cipher or protocol in common, or broken
)

var handshakeFailures = [...]string{ //nolint:gochecknoglobals // a constant table
	handshakeTimeout: "timeout", handshakeClosed: "closed", handshakeRefused: "refused", handshakeUncertified: "client_certificate", handshakeNotTLS: "not_tls", handshakeProtocol: "protocol",
}

// HandshakeFailures returns how many TLS handshakes failed, by why.
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

// handshakeFailure tells why without what the client sent, and without its address:
// an error may hold both.
func handshakeFailure(err error) (why int, detail string) {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case isTimeout(err):
		return handshakeTimeout, "it must be over within http.header_timeout, or sooner when room is needed"
	case errors.As(err, &certificate):
		return handshakeUncertified, distrust(certificate.Err)
	case strings.Contains(err.Error(), "didn't provide a certificate"): // the library has no other name for it
		return handshakeUncertified, "the client showed no certificate"
	case errors.As(err, &record):
		return handshakeNotTLS, "what came is no TLS"
	case errors.Is(err, errLongHandshake):
		return handshakeProtocol, errLongHandshake.Error()
	case errors.As(err, &op) && op.Op == "remote error":
		return handshakeRefused, op.Err.Error()
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return handshakeClosed, "the client closed the connection"
	}
	return handshakeProtocol, "no version, cipher or protocol is in common, or the client made a mistake"
}

// distrust says why a certificate is not trusted, without what it holds.
func distrust(err error) string {
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
