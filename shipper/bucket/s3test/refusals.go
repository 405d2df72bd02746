package s3test

import (
	"io"
	"net/http"
	"sync/atomic"
)

// Refusal responds to a PUT that is too large.
type Refusal func(w http.ResponseWriter)

// Refusals returns the responses of storages and proxies to a PUT that is too large.
func Refusals() map[string]Refusal {
	text := func(status int, kind, body string) Refusal {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	return map[string]Refusal{
		"S3": func(w http.ResponseWriter) { Error(w, http.StatusBadRequest, "EntityTooLarge") },
		"nginx": text(http.StatusRequestEntityTooLarge, "text/html", "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"+
			"<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"),
		"no body":    text(http.StatusRequestEntityTooLarge, "", ""),
		"plain text": text(http.StatusRequestEntityTooLarge, "text/plain", "Payload Too Large"),
		"XML":        func(w http.ResponseWriter) { Error(w, http.StatusRequestEntityTooLarge, "RequestTooLarge") },
	}
}

// Above returns a Fault that refuses PUTs of more than limit bytes.
func (r Refusal) Above(limit *atomic.Int64) func(w http.ResponseWriter, req *http.Request) bool {
	return func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodPut || req.ContentLength <= limit.Load() {
			return false
		}
		_, _ = io.Copy(io.Discard, req.Body)
		r(w)
		return true
	}
}

// Counted returns a Refusal that also counts its calls in n.
func (r Refusal) Counted(n *atomic.Int64) Refusal {
	return func(w http.ResponseWriter) { n.Add(1); r(w) }
}

// Limit returns a limit that a test can change.
func Limit(n int64) *atomic.Int64 {
	var limit atomic.Int64
	limit.Store(n)
	return &limit
}
