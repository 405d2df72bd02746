package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"collectord/collectord/origin"
)

// Options configures the admin server. All functions are required, and must be safe for
// concurrent use.
type Options struct {
	Version  string
	Snapshot func() (Snapshot, bool) // false while the daemon has no figures yet
	Ready    func() []string         // why the daemon should get no traffic; empty if it should
	Live     func() error            // why the daemon should be restarted, or nil
	Status   func() Status           // for GET /status and /readyz?verbose
	Page     func() Page             // for GET /

	MaxConnections int // open at the same time; default DefaultMaxConnections
}

// Limits of the resources of a client.
const (
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	answerTimeout = 10 * time.Second
	idleTimeout   = 75 * time.Second
)

const (
	metricsPath = "/metrics"
	livePath    = "/livez"
	readyPath   = "/readyz"

	// StatusPath serves the Status as JSON, on loopback and Unix sockets.
	StatusPath = "/status"
)

// Server serves HTTP on the admin listeners.
type Server struct {
	opts Options
	http *http.Server
	open connections
}

// New returns a server that does not listen yet.
func New(opts Options) *Server {
	if opts.MaxConnections == 0 {
		opts.MaxConnections = DefaultMaxConnections
	}
	s := &Server{opts: opts, open: connections{limit: opts.MaxConnections}}
	public := http.NewServeMux()
	public.Handle("GET "+metricsPath, promhttp.HandlerFor(newRegistry(opts.Snapshot, opts.Version), promhttp.HandlerOpts{}))
	public.HandleFunc("GET "+livePath, s.livez)
	public.HandleFunc("GET "+readyPath, s.readyz)

	local := http.NewServeMux()
	local.Handle("/", public)
	local.HandleFunc("GET "+readyPath, s.readyzVerbose)
	local.HandleFunc("GET /{$}", s.page)
	local.HandleFunc("GET "+StatusPath, s.status)
	newProfiler(opts.MaxConnections).routes(local)

	s.http = &http.Server{
		Handler:           rejectBodies(routeByListener(local, public)),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         s.open.track,
	}
	return s
}

// Serve serves ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(listener{ln}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin listener %s: %w", ln.Addr(), err)
	}
	return nil
}

// listener makes package http accept again after an error that passes. By itself it does so
// only after some of them, and the daemon would stop.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		return c, nil
	}
	for _, over := range []error{net.ErrClosed, syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK} {
		if errors.Is(err, over) {
			return nil, err
		}
	}
	return nil, temporary{err} // it concerns one connection, or a resource such as memory
}

// temporary is a net.Error after which package http logs and tries again, at most a second
// later.
type temporary struct{ error }

func (temporary) Timeout() bool   { return false }
func (temporary) Temporary() bool { return true }

// Shutdown closes the listeners, and waits for open requests until the deadline of ctx.
// After the deadline it closes the remaining connections, which is not an error.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	return err
}

// routeByListener serves everything on loopback and Unix sockets, and only public on other
// listeners.
func routeByListener(local, public http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		tcp, isTCP := addr.(*net.TCPAddr)
		switch {
		case isTCP && !tcp.IP.IsLoopback():
			public.ServeHTTP(w, r)
		case isTCP && !origin.IsLoopback([]byte(r.Host)):
			http.Error(w, "the Host header must name a loopback address here", http.StatusForbidden)
		case isTCP && strings.HasPrefix(r.URL.Path, profiles) && fromAnotherPage(r):
			http.Error(w, "web pages of other origins can't take profiles", http.StatusForbidden)
		default:
			local.ServeHTTP(w, r)
		}
	})
}

// fromAnotherPage reports whether a web page of another origin sent a request. Such a
// page can't read the response, but a profile would cost processor time.
func fromAnotherPage(r *http.Request) bool {
	origins, sites := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
	h := origin.Headers{Authority: []byte(r.Host), Origins: len(origins), Sites: len(sites)}
	if len(origins) > 0 {
		h.Origin = []byte(origins[0])
	}
	if len(sites) > 0 {
		h.Site = []byte(sites[0])
	}
	var rule *origin.Rule
	return rule.Check(h, false) != origin.None
}

// rejectBodies refuses requests with a body. No route needs one, and a slow client could
// block its connection by sending one.
func rejectBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			http.Error(w, "no body is expected", http.StatusRequestEntityTooLarge)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	if err := s.opts.Live(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) { s.answerReadiness(w, "") }

// readyzVerbose is served only on this host, because it names files, the destination
// and errors.
func (s *Server) readyzVerbose(w http.ResponseWriter, r *http.Request) {
	more := ""
	if r.URL.Query().Has("verbose") {
		status := s.opts.Status()
		more = status.verbose()
	}
	s.answerReadiness(w, more)
}

func (s *Server) answerReadiness(w http.ResponseWriter, more string) {
	if reasons := s.opts.Ready(); len(reasons) > 0 {
		http.Error(w, strings.Join(reasons, "\n")+more, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok"+more)
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	text, err := json.Marshal(s.opts.Status())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(text, '\n')) // an error means that the client is gone
}
