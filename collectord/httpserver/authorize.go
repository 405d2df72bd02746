package httpserver

import (
	"net"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/http1"
	"collectord/collectord/origin"
)

// SetPolicy puts another policy into effect: for tokens and authorities from
// the next request on, of open connections too; for certificates with the next
// connection.
func (h *Server) SetPolicy(p auth.Policy) {
	h.policy.Store(&p)
	h.rates.SetTokens(p.Rates(), time.Now())
	h.clients.SetTokens(p.Tokens)
}

// Clients returns what was accepted of each client that has a name.
func (h *Server) Clients() auth.ClientCounts { return h.clients.Counts() }

// Policy returns what is in effect.
func (h *Server) Policy() *auth.Policy { return h.policy.Load() }

// identify returns who sends a request: the name of its token, else of its
// certificate, or "" for a client without a name.
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
		if !c.keep() {
			return "", noRoom()
		}
		c.know()
	}
	if name != "" {
		return name, nil
	}
	return client, nil
}

// certified returns whom the connection's certificate names. It was checked in the
// handshake, and is again once there is another policy. Unix sockets have none:
// their permissions say who may use them.
func (c *conn) certified(policy *auth.Policy) (client string, why auth.Reason) {
	if c.checked != policy {
		c.checked, c.untrusted = policy, auth.Authenticated
		if !isLocal(c.raw) {
			c.untrusted = policy.Certificates(c.peers)
		}
	}
	return c.client, c.untrusted
}

// isLocal reports whether a connection is one of a unix socket.
func isLocal(c net.Conn) bool {
	_, local := c.LocalAddr().(*net.UnixAddr)
	return local
}

// challenge is what a 401 asks for (RFC 6750, section 3).
const challenge = `Bearer realm="collectord"`

// unauthorized rejects a request. What it brought is not told to anyone.
func (h *Server) unauthorized(why auth.Reason) *problem {
	h.opts.Logger.Warn("requests are rejected: their clients are not authenticated", "trouble", "unauthorized", "reason", string(why))
	p := &problem{code: CodeUnauthorized, header: http1.Field{Name: "WWW-Authenticate", Value: challenge}}
	switch why {
	case auth.NoToken:
		p.detail = "send the header Authorization: Bearer and a token"
	case auth.UnknownToken:
		p.detail = "the token is none of those that may send"
		p.header.Value += `, error="invalid_token"`
	case auth.NoCertificate:
		p.detail = "connect anew, with a client certificate"
	case auth.UntrustedCertificate:
		p.detail = "the client certificate is not trusted any more"
	}
	return p
}

// checkPage rejects what a page of another site may have sent. A valid token
// outweighs it: browsers never add one by themselves, as they do certificates.
func (h *Server) checkPage(c *conn, r *header) *problem {
	why := h.policy.Load().Page(r.from, r.bearer, c.onLoopback())
	if why == origin.None {
		return nil
	}
	h.opts.Logger.Warn("requests are rejected: web pages of other sites may have sent them (add an origin or a name that may send to http.origins or http.hosts)",
		"trouble", "cross_site", "reason", string(why))
	p := &problem{code: CodeCrossSite}
	switch why {
	case origin.Repeated:
		p.detail = "send at most one Origin and one Sec-Fetch-Site"
	case origin.ForeignHost:
		p.detail = "Host must be localhost or a loopback address here; other names are added to http.hosts"
	default:
		p.detail = "a page of another origin may not send usages; origins that may are added to http.origins"
	}
	return p
}

// onLoopback reports whether the listener of a request's connection can be reached
// from this host only, and from its web pages: not by a wildcard, not a unix socket.
func (c *conn) onLoopback() bool {
	listener, ok := c.raw.LocalAddr().(*net.TCPAddr)
	return ok && listener.IP.IsLoopback()
}
