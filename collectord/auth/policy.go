package auth

import (
	"crypto/tls"
	"crypto/x509"

	"collectord/collectord/origin"
)

// Policy says which clients may send. The zero value lets everyone send, over
// plaintext. It is never changed.
//
// With both tokens and authorities each client has to show both. With Anonymous
// it need not show anything, but what it shows must be right.
type Policy struct {
	Anonymous bool
	Tokens    *Tokens      // nil: none are needed, and those that come mean nothing
	TLS       *TLS         // nil: plaintext
	Pages     *origin.Rule // whose web pages may send without a token, beside the host's own
}

// Reason is why a client may not send, in words for the log.
type Reason string

// Reasons. Authenticated stands for none.
const (
	Authenticated        Reason = ""
	NoToken              Reason = "no token"
	UnknownToken         Reason = "unknown token"
	NoCertificate        Reason = "no client certificate"
	UntrustedCertificate Reason = "client certificate no longer trusted"
)

// Token returns the name of the client whose token was presented, or why that does
// not do. Nil means that none was presented; without Tokens nobody has a name.
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

// Certificates says whether certificates that the handshake of a connection accepted,
// perhaps under another policy, are good for this one. The client's comes first, then
// those between it and its root. The connection must not be one of a unix socket:
// these have none.
func (p *Policy) Certificates(peers []*x509.Certificate) (why Reason) {
	switch {
	case p.TLS == nil || p.TLS.authorities == nil:
		return Authenticated
	case len(peers) == 0 && p.Anonymous:
		return Authenticated
	case len(peers) == 0:
		return NoCertificate
	}
	between := x509.NewCertPool()
	for _, c := range peers[1:] {
		between.AddCert(c)
	}
	_, err := peers[0].Verify(x509.VerifyOptions{
		Roots: p.TLS.authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return UntrustedCertificate
	}
	return Authenticated
}

// Page returns why a request may be the work of a web page of another site. A valid
// token outweighs that: browsers never add one by themselves, as they do
// certificates. onLoopback says that the listener can be reached from this host only.
func (p *Policy) Page(from origin.Headers, bearer []byte, onLoopback bool) origin.Reason {
	needsToken := p.Tokens != nil && !p.Anonymous
	why := p.Pages.Check(from, !needsToken && onLoopback)
	if why == origin.None || p.holdsToken(bearer) {
		return origin.None
	}
	return why
}

// holdsToken reports whether a token was presented and is valid.
func (p *Policy) holdsToken(presented []byte) bool {
	if p.Tokens == nil || presented == nil {
		return false
	}
	_, known := p.Tokens.name(presented)
	return known
}

// Handshake is what a connection begins with, or nil for plaintext. A unix socket
// (local) does not leave the host.
func (p *Policy) Handshake(local bool) *tls.Config {
	switch {
	case p.TLS == nil || local:
		return nil
	case p.Anonymous:
		return p.TLS.optional
	}
	return p.TLS.required
}

// Rates returns the rates of the tokens that have one, in usages a second, by name.
func (p *Policy) Rates() map[string]float64 {
	if p.Tokens == nil {
		return nil
	}
	return p.Tokens.rates
}
