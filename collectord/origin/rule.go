package origin

import "slices"

// Headers are what a request says about where it comes from. The byte slices are
// only read.
type Headers struct {
	Authority []byte // of the request; see Authority
	Origin    []byte
	Site      []byte // Sec-Fetch-Site

	Origins, Sites int // how many of these headers there are
}

// Reason is why a request is rejected, in words for the log.
type Reason string

// Reasons. None means that the request is not rejected.
const (
	None          Reason = ""
	Repeated      Reason = "more than one Origin or Sec-Fetch-Site"
	CrossSite     Reason = "a page of another site sent it"
	ForeignOrigin Reason = "Origin is of another host"
	ForeignHost   Reason = "Host is not a loopback name"
)

// Rule is what is allowed beside the host's own pages. Nil allows nothing more.
// It is never changed.
type Rule struct {
	origins []string
	hosts   []host
}

// NewRule makes a rule that also allows origins, as browsers send them, and hosts,
// names or addresses without a port. Hosts that are neither are ignored.
func NewRule(origins, hosts []string) *Rule {
	r := &Rule{origins: slices.Clone(origins)}
	for _, name := range hosts {
		if h, ok := parseName(name); ok {
			r.hosts = append(r.hosts, h)
		}
	}
	return r
}

// Check is the rule. On a loopback listener that needs no token, loopbackOnly has
// the request name a loopback host: a page whose own name was made to resolve to
// this machine (DNS rebinding) has an Origin and a Host that agree.
//
//	Origin or Sec-Fetch-Site more than once     reject: a browser never does that
//	Sec-Fetch-Site: same-origin, none           allow
//	Origin is one of the rule's                 go on to Host
//	Sec-Fetch-Site: cross-site                  reject
//	Origin of the host that the request names   go on to Host; ports may differ
//	any other Origin                            reject
//	no Origin, any other Sec-Fetch-Site         reject: every page's POST has an Origin
//	Host, if loopbackOnly                       none, a loopback name, or one of the rule's
func (r *Rule) Check(h Headers, loopbackOnly bool) Reason {
	switch {
	case h.Origins > 1 || h.Sites > 1:
		return Repeated
	case string(h.Site) == "same-origin" || string(h.Site) == "none":
		return None
	case h.Origins == 1 && r.allows(h.Origin):
	case string(h.Site) == "cross-site", h.Origins == 0 && len(h.Site) > 0:
		return CrossSite
	case h.Origins == 1 && !sameHost(h.Origin, h.Authority):
		return ForeignOrigin
	}
	if loopbackOnly && len(h.Authority) > 0 && !IsLoopback(h.Authority) && !r.names(h.Authority) {
		return ForeignHost
	}
	return None
}

func (r *Rule) allows(origin []byte) bool {
	if r == nil {
		return false
	}
	for _, o := range r.origins {
		if string(origin) == o {
			return true
		}
	}
	return false
}

func (r *Rule) names(authority []byte) bool {
	if r == nil {
		return false
	}
	h, ok := parseAuthority(authority)
	return ok && slices.ContainsFunc(r.hosts, h.equal)
}

// sameHost reports whether an origin's host is the one that the request names.
// Origins of other schemes than http and https have no host of the network.
func sameHost(origin, authority []byte) bool {
	from, ok := originHost(origin)
	if !ok {
		return false
	}
	to, ok := parseAuthority(authority)
	return ok && from.equal(to)
}
