package httpserver

import (
	"net"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/http1"
	"collectord/collectord/origin"
)

// SetPolicy replaces the policy. Its tokens and client authorities apply from the next
// request on, also on open connections. Its server certificates apply to new connections.
func (h *Server) SetPolicy(p auth.Policy) {
	h.policy.Store(&p)
	h.rates.SetTokens(p.Rates(), time.Now())
	h.clients.SetTokens(p.Tokens)
}

// Clients returns the counts of each named client.
func (h *Server) Clients() auth.ClientCounts { return h.clients.Counts() }

// Policy returns the current policy.
func (h *Server) Policy() *auth.Policy { return h.policy.Load() }

// identify returns the client that sends a request: the name of its token, or else of its
// certificate. A client without a name is "".
func (h *Server) identify(c *conn, header *header) (client string, p *problem) {
	policy := h.policy.Load()
	client, why := c.certified(policy)
	if why != auth.Authenticated {
		return "", h.unauthorized(why)
	}
	name, why := policy.Token(header.bearer)
	if why != auth.Authenticated {
		return "", h.unauthorized(why)
	}
	if name != "" || len(c.peers) > 0 {
		if !c.protect() {
			return "", tooManyConnectionsProblem()
		}
		c.markClient()
	}
	if name != "" {
		return name, nil
	}
	return client, nil
}

// certified returns the client that the connection's certificate names. The handshake
// checks the certificate, and certified checks it again after the policy has changed.
// Unix sockets need no certificate: their file permissions decide which clients may
// connect.
func (c *conn) certified(policy *auth.Policy) (client string, why auth.Reason) {
	if c.checkedPolicy != policy {
		c.checkedPolicy, c.certificateReason = policy, auth.Authenticated
		if !isLocal(c.raw) {
			c.certificateReason = policy.Certificates(c.peers)
		}
	}
	return c.certificateName, c.certificateReason
}

// isLocal reports whether a connection is over a unix socket.
func isLocal(c net.Conn) bool {
	_, local := c.LocalAddr().(*net.UnixAddr)
	return local
}

// challenge is the field WWW-Authenticate of a 401 (RFC 6750, section 3).
const challenge = `Bearer realm="collectord"`

// unauthorized rejects a request. The log line and the answer contain nothing that the
// client sent.
func (h *Server) unauthorized(why auth.Reason) *problem {
	h.opts.Logger.Warn("requests are rejected: their clients are not authenticated", "trouble", "unauthorized", "reason", string(why))
	p := &problem{code: CodeUnauthorized, extraField: http1.Field{Name: "WWW-Authenticate", Value: challenge}}
	switch why {
	case auth.NoToken:
		p.detail = "send the header Authorization: Bearer and a token"
	case auth.UnknownToken:
		p.detail = "the token is not known here"
		p.extraField.Value += `, error="invalid_token"`
	case auth.NoCertificate:
		p.detail = "connect anew, with a client certificate"
	case auth.UntrustedCertificate:
		p.detail = "the client certificate is not trusted any more"
	}
	return p
}

// checkPage rejects a request that a page of another site may have sent. A valid token
// exempts a request: browsers add certificates by themselves, but never tokens.
func (h *Server) checkPage(c *conn, r *header) *problem {
	why := h.policy.Load().Page(r.origins, r.bearer, c.onLoopback())
	if why == origin.None {
		return nil
	}
	h.opts.Logger.Warn("requests are rejected: web pages of other sites may have sent them (to allow a page, add its origin to http.origins; add other names of this host to http.hosts)",
		"trouble", "cross_site", "reason", string(why))
	p := &problem{code: CodeCrossSite}
	switch why {
	case origin.Repeated:
		p.detail = "send at most one Origin and one Sec-Fetch-Site"
	case origin.ForeignHost:
		p.detail = "Host must be localhost or a loopback address here; the operator can add other names to http.hosts"
	default:
		p.detail = "a page of another origin may not send usages; the operator can add its origin to http.origins"
	}
	return p
}

// onLoopback reports whether the listener's address is a loopback address, which only
// this host and its web pages can reach. A wildcard address and a unix socket are not.
func (c *conn) onLoopback() bool {
	listener, ok := c.raw.LocalAddr().(*net.TCPAddr)
	return ok && listener.IP.IsLoopback()
}
