package httpserver

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"collectord/collectord/http1"
)

// admit takes n usages of a token from its rate and from that of all. The
// problem is not counted yet: the ledger is to have all n.
func (h *Server) admit(token string, n int, now time.Time) *problem {
	ok, wait := h.rates.Take(token, n, now)
	if ok {
		return nil
	}
	return &problem{
		status: http.StatusTooManyRequests, code: CodeRateLimited,
		detail: "more usages a second than http.rate or the token allows; nothing was stored",
		header: http1.Field{Name: "Retry-After", Value: spread(wait)},
	}
}

// spread is wait in whole seconds and up to half as much again, so that clients
// that were refused together do not come back together.
func spread(wait time.Duration) string {
	seconds := int(math.Ceil(wait.Seconds()))
	return strconv.Itoa(max(1, seconds) + rand.IntN(seconds/2+2))
}
