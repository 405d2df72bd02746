package ingest

import (
	"crypto/x509"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"collectord/collectord/origin"
)

// Identity is who may post, and how they show who they are. The zero value lets
// everyone post, over plaintext.
//
// With both tokens and authorities each client has to show both. With Anonymous
// it need not show anything, but what it shows must be right.
type Identity struct {
	Anonymous bool
	Tokens    *Tokens      // nil: none are asked for, and those that come mean nothing
	TLS       *TLS         // nil: plaintext
	Pages     *origin.Rule // whose web pages may post without a token, beside the host's own
}

// SetIdentity puts another identity into effect: for tokens and authorities from
// the next request on, of open connections too; for certificates with the next
// connection.
func (h *HTTP) SetIdentity(i Identity) {
	h.identity.Store(&i)
	var rates map[string]float64
	if i.Tokens != nil {
		rates = i.Tokens.rates
	}
	h.rates.setTokens(rates, time.Now())
}

// Identity returns what is in effect.
func (h *HTTP) Identity() *Identity { return h.identity.Load() }

// Why a request is refused, for the log.
const (
	noToken        = "no token"
	unknownToken   = "unknown token"
	noCertificate  = "no client certificate"
	badCertificate = "client certificate no longer trusted"
)

// identify tells who sends a request: the name of its token, else of its
// certificate, or "" for a client without a name.
func (h *HTTP) identify(ctx *fasthttp.RequestCtx, asked *header) (client string, p *problem) {
	who := h.identity.Load()
	client, why := who.certified(ctx)
	if why != "" {
		return "", h.unauthorized(why)
	}
	name := ""
	if who.Tokens != nil {
		if name, why = who.tokenOf(asked.bearer); why != "" {
			return "", h.unauthorized(why)
		}
	}
	switch {
	case asked.unread: // it was a stranger's when the header came
		return "", h.unauthorized(unknownToken)
	case name != "" || hasCertificate(ctx):
		if !keep(ctx) {
			return "", noRoom()
		}
		know(ctx)
	}
	if name != "" {
		return name, nil
	}
	return client, nil
}

// tokenOf tells whose token was presented, or why that will not do.
func (i *Identity) tokenOf(presented []byte) (name, why string) {
	if presented == nil {
		if i.Anonymous {
			return "", ""
		}
		return "", noToken
	}
	name, known := i.Tokens.name(presented)
	if !known {
		return "", unknownToken
	}
	return name, ""
}

// unreadLength as the length of a body keeps the server from waiting for the first 8
// KiB of it: it takes such a body for one in chunks, and leaves it to the handler,
// which must close the connection.
const unreadLength = -1

// isStranger reports whether a request will be refused for its token, as soon as
// there is its header.
func (h *HTTP) isStranger(header *fasthttp.RequestHeader) bool {
	who := h.identity.Load()
	if who.Tokens == nil {
		return false
	}
	_, why := who.tokenOf(bearer(header.Peek(fasthttp.HeaderAuthorization)))
	return why != ""
}

// certified tells whom the connection's certificate names. It was checked in the
// handshake, and is again once there is another identity. Unix sockets have none:
// their permissions say who may use them.
func (i *Identity) certified(ctx *fasthttp.RequestCtx) (client, why string) {
	c, ok := ctx.Conn().(*connection)
	if !ok {
		return "", ""
	}
	if c.checked != i {
		c.checked, c.untrusted = i, ""
		if !isLocal(c.raw) {
			c.untrusted = i.TLS.distrusts(c.peers, i.Anonymous)
		}
	}
	return c.client, c.untrusted
}

// hasCertificate reports whether the client showed a certificate, which certified
// has checked.
func hasCertificate(ctx *fasthttp.RequestCtx) bool {
	c, ok := ctx.Conn().(*connection)
	return ok && len(c.peers) > 0
}

// distrusts says what is wrong with certificates that were accepted once.
func (t *TLS) distrusts(peers []*x509.Certificate, anonymous bool) (why string) {
	switch {
	case t == nil || t.authorities == nil:
		return ""
	case len(peers) == 0:
		if anonymous {
			return ""
		}
		return noCertificate
	}
	between := x509.NewCertPool()
	for _, c := range peers[1:] {
		between.AddCert(c)
	}
	_, err := peers[0].Verify(x509.VerifyOptions{
		Roots: t.authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return badCertificate
	}
	return ""
}

// challenge is what a 401 asks for (RFC 6750, section 3).
const challenge = `Bearer realm="collectord"`

// unauthorized refuses a request. What it brought is not told to anyone.
func (h *HTTP) unauthorized(why string) *problem {
	h.opts.Logger.Warn("requests are refused, because they do not show who sends them", "trouble", "unauthorized", "reason", why)
	p := &problem{status: http.StatusUnauthorized, code: CodeUnauthorized, header: [2]string{"WWW-Authenticate", challenge}}
	switch why {
	case noToken:
		p.detail = "send the header Authorization: Bearer and a token"
	case unknownToken:
		p.detail = "the token is none of those that may post"
		p.header[1] += `, error="invalid_token"`
	case noCertificate:
		p.detail = "connect anew, with a client certificate"
	case badCertificate:
		p.detail = "the client certificate is not trusted any more"
	}
	return p
}
