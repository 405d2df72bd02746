package httpserver

import (
	"errors"
	"net/http"
	"strings"

	"collectord/collectord/http1"
)

// route is the resource and method that a request addresses.
type route uint8

const (
	routeNone route = iota
	routeUsages
	routeOtherMethod // another method for the path of usages
	routeHealth
	routeHealthMethod
	routeAdmin // a path of the admin server
	routeUnknown
)

const (
	usagesPath = "/api/usages"
	healthPath = "/healthz"
)

func (h *Server) routeOf(q *http1.Request) route {
	method := q.Method
	switch string(q.Path()) {
	case usagesPath:
		if string(method) == http.MethodPost {
			return routeUsages
		}
		return routeOtherMethod
	case healthPath:
		if string(method) == http.MethodGet || string(method) == http.MethodHead {
			return routeHealth
		}
		return routeHealthMethod
	}
	if h.opts.AdminServes != nil && h.opts.AdminServes(string(q.Path())) {
		return routeAdmin
	}
	return routeUnknown
}

// answerPage answers every request that is not a POST of usages.
func (c *conn) answerPage() {
	switch c.route {
	case routeHealth:
		word, status := c.server.health()
		c.respond(&http1.Response{Status: status, Type: "text/plain; charset=utf-8"}, []byte(word+"\n"))
	case routeHealthMethod:
		c.answerProblem(&problem{code: CodeMethod, extraField: http1.Field{Name: "Allow", Value: "GET, HEAD"}})
	case routeOtherMethod:
		c.answerProblem(&problem{code: CodeMethod, detail: "usages are posted", extraField: http1.Field{Name: "Allow", Value: "POST"}})
	case routeAdmin:
		where := strings.Join(c.server.opts.AdminAddresses, ", ")
		if where == "" {
			where = "off"
		}
		c.answerProblem(&problem{code: CodeNotFound, detail: "the admin server serves this path: admin.listen is " + where})
	default:
		c.answerProblem(&problem{code: CodeNotFound, detail: "usages are posted to " + usagesPath})
	}
}

// health returns the text and status of the answer to /healthz.
func (h *Server) health() (word string, status int) {
	full := h.log.Full()
	switch {
	case h.draining.Load():
		return "draining", http.StatusServiceUnavailable
	case errors.Is(full, ErrStarting):
		return "starting", http.StatusServiceUnavailable
	case full != nil:
		return "full", http.StatusServiceUnavailable
	}
	return "ok", http.StatusOK
}
