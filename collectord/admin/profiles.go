package admin

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
)

const profiles = "/debug/pprof/"

// Limits of profiles, which use a connection and processor time.
const (
	maxProfiles       = 2  // at the same time
	maxProfileSeconds = 60 // duration of one
)

// profiler serves profiles, up to a number at the same time.
type profiler struct{ slots chan struct{} }

// newProfiler limits profiles to half of the connections, so that health checks and
// scrapes can use the rest.
func newProfiler(connections int) *profiler {
	return &profiler{make(chan struct{}, max(1, min(maxProfiles, connections/2)))}
}

// routes registers the profiles in mux. The handlers of pprof extend the write deadline
// by the requested duration.
func (p *profiler) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+profiles+"{$}", pprof.Index)
	for path, handler := range map[string]http.HandlerFunc{
		"":        pprof.Index,
		"profile": pprof.Profile,
		"symbol":  pprof.Symbol,
		"trace":   pprof.Trace,
	} {
		mux.HandleFunc("GET "+profiles+path, p.bounded(handler))
	}
}

func (p *profiler) bounded(take http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, text := range r.URL.Query()["seconds"] {
			if seconds, err := strconv.ParseFloat(text, 64); err != nil || !(seconds >= 0 && seconds <= maxProfileSeconds) {
				http.Error(w, fmt.Sprintf("seconds must be a number up to %d", maxProfileSeconds), http.StatusBadRequest)
				return
			}
		}
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }()
			take(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "as many profiles as allowed are being taken: try again once they are done", http.StatusTooManyRequests)
		}
	}
}

// Serves reports whether the admin server serves a path, other than the status page.
func Serves(path string) bool {
	switch path {
	case metricsPath, livePath, readyPath, StatusPath:
		return true
	}
	return strings.HasPrefix(path+"/", profiles)
}
