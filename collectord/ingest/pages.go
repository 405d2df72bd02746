package ingest

import (
	"net"
	"net/http"

	"github.com/valyala/fasthttp"

	"collectord/collectord/origin"
)

// checkPage rejects what a page of another site may have sent. A valid token
// outweighs it: browsers never add one by themselves, as they do certificates.
func (h *HTTP) checkPage(ctx *fasthttp.RequestCtx, r *header) *problem {
	who := h.identity.Load()
	from := r.from
	from.Authority = origin.Authority(ctx.Request.Header.RequestURI(), from.Authority)
	needsToken := who.Tokens != nil && !who.Anonymous
	why := who.Pages.Check(from, !needsToken && onLoopback(ctx))
	if why == origin.None || who.holdsToken(r.bearer) {
		return nil
	}
	h.opts.Logger.Warn("requests are rejected: web pages of other sites may have sent them (add an origin or a name that may send to http.origins or http.hosts)",
		"trouble", "cross_site", "reason", string(why))
	p := &problem{status: http.StatusForbidden, code: CodeCrossSite}
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
func onLoopback(ctx *fasthttp.RequestCtx) bool {
	c, ok := ctx.Conn().(*connection)
	if !ok {
		return false
	}
	listener, ok := c.raw.LocalAddr().(*net.TCPAddr)
	return ok && listener.IP.IsLoopback()
}

// holdsToken reports whether a token was presented and is valid.
func (i *Identity) holdsToken(presented []byte) bool {
	if i.Tokens == nil || presented == nil {
		return false
	}
	_, known := i.Tokens.name(presented)
	return known
}
