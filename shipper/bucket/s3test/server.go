// Package s3test is a small in-memory S3 server for tests. It implements the part of the
// API that collectord uses, and can inject faults. The same tests run against real
// storages to check that its responses match theirs.
package s3test

import (
	"crypto/md5" //nolint:gosec // Content-MD5 (RFC 1864)
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bucket is the name of the only bucket.
const Bucket = "bucket"

// Object is a stored object.
type Object struct {
	Body     []byte
	Header   http.Header // header of the PUT request
	Modified time.Time
}

// Server is a running server.
type Server struct {
	URL string

	server http.Server

	mu        sync.Mutex // guards the fields below
	behaviour Behaviour
	objects   map[string]Object
	puts      map[string]int
	requests  int
}

// New starts a server on a free port of the loopback interface.
func New() (*Server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := newServer("http://" + ln.Addr().String())
	go func() { _ = s.server.Serve(ln) }()
	return s, nil
}

func newServer(url string) *Server {
	s := &Server{URL: url, objects: map[string]Object{}, puts: map[string]int{}}
	s.server.Handler = s
	return s
}

// Close stops the server and closes all connections.
func (s *Server) Close() { _ = s.server.Close() }

// Behave sets the behaviour for the following requests.
func (s *Server) Behave(b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behaviour = b
}

// Objects returns a copy of the stored objects, by key.
func (s *Server) Objects() map[string]Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.objects)
}

// Puts returns how often each key was written, including writes of the same bytes.
func (s *Server) Puts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.puts)
}

// Requests returns the number of requests so far.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Put stores an object without a request; a nil body deletes it. An existing object keeps
// its metadata.
func (s *Server) Put(key string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if body == nil {
		delete(s.objects, key)
		return
	}
	header := s.objects[key].Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if header.Get("X-Amz-Checksum-Crc32c") != "" {
		header.Set("X-Amz-Checksum-Crc32c", crc32c(body))
	}
	s.objects[key] = Object{Body: body, Header: header, Modified: time.Now()}
}

// Touch sets the modification time of an object.
func (s *Server) Touch(key string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	o.Modified = at
	s.objects[key] = o
}

// Corrupt replaces the bytes of an object and keeps its checksum header, like a storage that
// lost data in a power cut.
func (s *Server) Corrupt(key string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	o.Body = body
	s.objects[key] = o
}

// Error responds with an S3 error. It returns true, so that a Fault can return its result.
func Error(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>because the test says so</Message></Error>", code)
	return true
}

// Abort closes the connection without a response. It returns true, so that a Fault can
// return its result.
func Abort(w http.ResponseWriter) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // w is not the server's own ResponseWriter
		return Error(w, http.StatusNotImplemented, "CannotAbort")
	}
	_ = conn.Close()
	return true
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	b := s.behaviour
	s.mu.Unlock()
	if b.Each != nil {
		b = b.Each(r)
	}
	if b.Fault != nil && b.Fault(w, r) {
		return
	}
	key, isObject := strings.CutPrefix(r.URL.Path, "/"+Bucket+"/")
	switch {
	case r.URL.Query().Has("location"):
		fmt.Fprint(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`)
	case isObject && key != "" && r.Method == http.MethodPut:
		s.put(w, r, b, key)
	case isObject && key != "":
		s.get(w, r, b, key)
	default:
		s.list(w, r, b)
	}
}

// Headers that S3 uses in both the request and the response.
const (
	sseHeader   = "X-Amz-Server-Side-Encryption"
	classHeader = "X-Amz-Storage-Class"
)

func (s *Server) get(w http.ResponseWriter, r *http.Request, b Behaviour, key string) {
	s.mu.Lock()
	o, ok := s.objects[key]
	s.mu.Unlock()
	if !ok {
		Error(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	for name, v := range o.Header {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			w.Header()[name] = v
		}
	}
	if kind := o.Header.Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	class := o.Header.Get(classHeader)
	if b.Class == Archive && class != "" && r.Method == http.MethodGet {
		Error(w, http.StatusForbidden, "InvalidObjectState")
		return
	}
	if class != "" && class != "STANDARD" && b.Class != Disregard {
		w.Header().Set(classHeader, class)
	}
	if sse := o.Header.Get(sseHeader); sse != "" && (b.Encryption == Obey || b.Encryption == KeepHeader) {
		w.Header().Set(sseHeader, sse)
	}
	w.Header().Set("ETag", etag(o.Body))
	if sum := o.Header.Get("X-Amz-Checksum-Crc32c"); sum != "" && !b.BlindCRC32C && r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
		w.Header().Set("X-Amz-Checksum-Crc32c", sum) // the checksum of the PUT, even if the bytes have changed since
	}
	w.Header().Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	body := o.Body
	if r.Method == http.MethodGet {
		switch b.Read {
		case BreaksOff:
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body[:len(body)/2])
			return // the server closes the connection if the body is shorter than Content-Length
		case ReadsPart:
			body = body[:len(body)/3] // a third, since half of a body that is stored twice would be correct
		case ReadsTwice:
			body = slices.Concat(body, body)
		case ReadsOther:
			body = []byte("another file") // no stored object, since its content could be correct for this key
		}
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(body)))
}

// otherThan returns the content of another data object. The caller holds mu.
func (s *Server) otherThan(key string) []byte {
	for other, o := range s.objects {
		if other != key && strings.HasSuffix(other, ".zst") {
			return o.Body
		}
	}
	return []byte("no object")
}

// pageSize is small, so that lists have several pages.
const pageSize = 50

func (s *Server) list(w http.ResponseWriter, r *http.Request, b Behaviour) {
	type content struct{ Key, LastModified string }
	var page struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string
		Contents              []content
	}
	after := r.URL.Query().Get("continuation-token")
	s.mu.Lock()
	keys := slices.Sorted(maps.Keys(s.objects))
	s.mu.Unlock()
	for _, key := range keys {
		if key <= after || !strings.HasPrefix(key, r.URL.Query().Get("prefix")) {
			continue
		}
		if len(page.Contents) == pageSize {
			page.IsTruncated, page.NextContinuationToken = true, page.Contents[pageSize-1].Key
			break
		}
		page.Contents = append(page.Contents, content{key, "2026-11-23T08:00:00Z"})
	}
	switch b.List {
	case ListsPart:
		page.IsTruncated, page.NextContinuationToken = false, ""
	case ListsTwice:
		page.Contents = slices.Concat(page.Contents, page.Contents)
	case ListsForever:
		page.IsTruncated, page.NextContinuationToken = true, r.URL.Query().Get("prefix")
	case ListsForeign:
		page.Contents = append(page.Contents, content{"somewhere/else.ndjson.zst", "2026-11-23T08:00:00Z"})
	}
	_ = xml.NewEncoder(w).Encode(page)
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, b Behaviour, key string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		Error(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	header := r.Header
	payload := header.Get("X-Amz-Content-Sha256")
	chunked := strings.HasPrefix(payload, "STREAMING-")
	if chunked {
		body = unchunk(body)
	}
	conditional, replacing := header.Get("If-None-Match") == "*", header.Get("If-Match")
	crc, digest := header.Get("X-Amz-Checksum-Crc32c"), header.Get("Content-Md5")
	md := md5.Sum(body) //nolint:gosec // see above

	s.mu.Lock()
	existing, taken := s.objects[key]
	status, code := 0, ""
	switch {
	case (conditional || replacing != "") && b.Conditions == Refuse:
		status, code = http.StatusNotImplemented, "NotImplemented"
	case (conditional || replacing != "") && b.Conditions == RefuseAsInvalid, crc != "" && b.NoCRC32C, digest != "" && b.NoMD5:
		status, code = http.StatusBadRequest, "InvalidArgument"
	case chunked && b.NoChunks:
		status, code = http.StatusNotImplemented, "NotImplemented"
	case crc != "" && crc != crc32c(body) && !b.BlindCRC32C,
		digest != "" && !b.BlindMD5 && digest != base64.StdEncoding.EncodeToString(md[:]):
		status, code = http.StatusBadRequest, "BadDigest"
	case len(payload) == hex.EncodedLen(sha256.Size) && payload != fmt.Sprintf("%x", sha256.Sum256(body)) && !b.BlindSHA256:
		status, code = http.StatusBadRequest, "XAmzContentSHA256Mismatch"
	case replacing != "" && !taken && b.Conditions == Honour:
		status, code = http.StatusNotFound, "NoSuchKey"
	case conditional && taken && b.Conditions == Honour, replacing != "" && replacing != etag(existing.Body) && b.Conditions == Honour:
		status, code = http.StatusPreconditionFailed, "PreconditionFailed"
	case b.Lie == Page, b.Lie == ErrorBody, b.Lie == KeepsNothing, b.Lie == ConfirmsNothing:
	default:
		kept := b.Lie.storedBody(body)
		if b.Lie == ConfirmsOther {
			kept = s.otherThan(key)
		}
		if b.Lie < ConfirmsNothing {
			body = kept
		}
		o := Object{kept, header.Clone(), time.Now()}
		if crc != "" && !b.BlindCRC32C {
			o.Header.Set("X-Amz-Checksum-Crc32c", crc32c(body))
		}
		if b.NoMetadata {
			o.Header = http.Header{}
		}
		s.objects[key] = o
		s.puts[key]++
		if b.Forget > 0 {
			s.forget(key, o, b.Forget)
		}
	}
	s.mu.Unlock()
	if status != 0 {
		Error(w, status, code)
		return
	}
	if b.Stored != nil && b.Stored(key) {
		Abort(w)
		return
	}
	if sse := header.Get(sseHeader); sse != "" && b.Encryption == Obey {
		w.Header().Set(sseHeader, sse)
	}
	switch b.Lie {
	case Page:
		LoginPage(w, http.StatusOK)
	case ErrorBody:
		Error(w, http.StatusOK, "InternalError")
	case Bare, TruncatesBare, GarblesBare:
	case AnyETag, KeepsNothing:
		w.Header().Set("ETag", etag([]byte("something else")))
	default:
		w.Header().Set("ETag", etag(body))
		if crc != "" && !b.BlindCRC32C {
			w.Header().Set("X-Amz-Checksum-Crc32c", crc32c(body))
		}
	}
}

// forget deletes an object after a delay, unless it was replaced by then.
func (s *Server) forget(key string, o Object, after time.Duration) {
	time.AfterFunc(after, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if now, ok := s.objects[key]; ok && len(now.Body) > 0 && &now.Body[0] == &o.Body[0] {
			delete(s.objects, key)
		}
	})
}

func etag(body []byte) string {
	return fmt.Sprintf(`"%x"`, md5.Sum(body)) //nolint:gosec // S3 defines it as an MD5 sum
}

func crc32c(body []byte) string {
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// unchunk decodes the aws-chunked encoding of a signed stream.
func unchunk(raw []byte) (body []byte) {
	rest := string(raw)
	for {
		head, after, ok := strings.Cut(rest, "\r\n")
		var n int
		if _, err := fmt.Sscanf(head, "%x", &n); err != nil || !ok || n == 0 || n+2 > len(after) {
			return body
		}
		body = append(body, after[:n]...)
		rest = after[n+2:]
	}
}
