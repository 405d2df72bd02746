package origin

import "slices"

// Headers contains the request headers that indicate its origin. The byte slices are
// not modified.
type Headers struct {
	Authority []byte // host and port of the request; see Authority
	Origin    []byte
	Site      []byte // Sec-Fetch-Site

	Origins, Sites int // how often each header occurs
}

// Reason is why a request is rejected, as text for the log.
type Reason string

// Reasons. None means that the request is allowed.
const (
	None          Reason = ""
	Repeated      Reason = "more than one Origin or Sec-Fetch-Site"
	CrossSite     Reason = "a page of another site sent it"
	ForeignOrigin Reason = "Origin is of another host"
	ForeignHost   Reason = "Host is not a loopback name"
)

// Rule defines what is allowed in addition to pages of the host itself. A nil Rule
// allows nothing more. A Rule is immutable.
type Rule struct {
	origins []string
	hosts   []host
}

// NewRule returns a Rule that also allows the given origins and hosts. Origins are in
// the form of the Origin header. Hosts are names or addresses without a port; invalid
// ones are ignored.
func NewRule(origins, hosts []string) *Rule {
	r := &Rule{origins: slices.Clone(origins)}
	for _, name := range hosts {
		if h, ok := parseName(name); ok {
			r.hosts = append(r.hosts, h)
		}
	}
	return r
}

// Check returns why a request is rejected, or None. loopbackOnly requires that the
// request names a loopback host. It is for a loopback listener that needs no token,
// because DNS rebinding gives a page an Origin and a Host that agree.
//
//	Origin or Sec-Fetch-Site more than once     reject: a browser never does that
//	Sec-Fetch-Site: same-origin, none           allow
//	Origin that the rule allows                 go on to Host
//	Sec-Fetch-Site: cross-site                  reject
//	Origin of the host that the request names   go on to Host; ports may differ
//	any other Origin                            reject
//	no Origin, any other Sec-Fetch-Site         reject: every page's POST has an Origin
//	Host, if loopbackOnly                       allow none, a loopback name, or a host of the rule
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

// sameHost reports whether an origin has the host that the request names. The result is
// false for origins with another scheme than http or https.
func sameHost(origin, authority []byte) bool {
	from, ok := originHost(origin)
	if !ok {
		return false
	}
	to, ok := parseAuthority(authority)
	return ok && from.equal(to)
}
