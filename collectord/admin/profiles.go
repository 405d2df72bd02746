package admin

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
)

const profiles = "/debug/pprof/"

// Bounds of profiles, which take a connection and the daemon's time.
const (
	maxProfiles       = 2  // taken at a time
	maxProfileSeconds = 60 // of each
)

// profiler takes profiles.
type profiler struct{ slots chan struct{} }

// newProfiler leaves half of the connections to others.
func newProfiler(connections int) *profiler {
	return &profiler{make(chan struct{}, max(1, min(maxProfiles, connections/2)))}
}

// routes has mux serve profiles. The handlers extend the time to answer by what they are
// asked for.
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

// Serves reports whether a path is one of the admin server's, other than its status page.
func Serves(path string) bool {
	switch path {
	case metricsPath, livePath, readyPath, StatusPath:
		return true
	}
	return strings.HasPrefix(path+"/", profiles)
}
