package auth

import (
	"crypto/tls"
	"crypto/x509"

	"collectord/collectord/origin"
)

// Policy defines which clients may send. The zero value allows every client, over
// plaintext. A Policy is immutable.
//
// If Tokens and client certificates are both configured, a client must present both.
// With Anonymous a client may omit them, but anything it presents must be valid.
type Policy struct {
	Anonymous bool
	Tokens    *Tokens      // nil: no token is needed, and presented tokens are ignored
	TLS       *TLS         // nil: plaintext
	Pages     *origin.Rule // additional web pages that may send without a token; nil: only pages of the host itself
}

// Reason is why a client may not send, as text for the log.
type Reason string

// Reasons. Authenticated means that the client may send.
const (
	Authenticated        Reason = ""
	NoToken              Reason = "no token"
	UnknownToken         Reason = "unknown token"
	NoCertificate        Reason = "no client certificate"
	UntrustedCertificate Reason = "client certificate no longer trusted"
)

// Token returns the name of the client that owns the presented token, or why it may not
// send. Nil means that the request has no token. The name is empty if no tokens are
// configured, or if an anonymous client presents none.
func (p *Policy) Token(presented []byte) (client string, why Reason) {
	switch {
	case p.Tokens == nil, presented == nil && p.Anonymous:
		return "", Authenticated
	case presented == nil:
		return "", NoToken
	}
	client, known := p.Tokens.name(presented)
	if !known {
		return "", UnknownToken
	}
	return client, Authenticated
}

// Certificates checks the certificates of a connection against this policy. The
// handshake may have accepted them under an earlier policy. The client's certificate
// comes first, then the intermediates. Connections of Unix sockets have no certificates
// and must not be checked.
func (p *Policy) Certificates(peers []*x509.Certificate) (why Reason) {
	switch {
	case p.TLS == nil || p.TLS.authorities == nil:
		return Authenticated
	case len(peers) == 0 && p.Anonymous:
		return Authenticated
	case len(peers) == 0:
		return NoCertificate
	}
	intermediates := x509.NewCertPool()
	for _, c := range peers[1:] {
		intermediates.AddCert(c)
	}
	_, err := peers[0].Verify(x509.VerifyOptions{
		Roots: p.TLS.authorities, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return UntrustedCertificate
	}
	return Authenticated
}

// Page returns what suggests that a web page of another site sent the request, or
// origin.None if the request is allowed. A
// request with a valid token is always allowed: browsers send certificates on their
// own, but never tokens. onLoopback means that the listener is reachable only from this
// host.
func (p *Policy) Page(from origin.Headers, bearer []byte, onLoopback bool) origin.Reason {
	needsToken := p.Tokens != nil && !p.Anonymous
	why := p.Pages.Check(from, !needsToken && onLoopback)
	if why == origin.None || p.hasValidToken(bearer) {
		return origin.None
	}
	return why
}

// hasValidToken reports whether the request has a valid token.
func (p *Policy) hasValidToken(presented []byte) bool {
	if p.Tokens == nil || presented == nil {
		return false
	}
	_, known := p.Tokens.name(presented)
	return known
}

// Handshake returns the TLS configuration of a new connection, or nil for plaintext.
// Unix sockets (local) use plaintext, because their data stays on this host.
func (p *Policy) Handshake(local bool) *tls.Config {
	switch {
	case p.TLS == nil || local:
		return nil
	case p.Anonymous:
		return p.TLS.optional
	}
	return p.TLS.required
}

// Rates returns the configured rates of tokens in usages per second, by name.
func (p *Policy) Rates() map[string]float64 {
	if p.Tokens == nil {
		return nil
	}
	return p.Tokens.rates
}
