package shipper

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// fakeS3 is the part of S3 that the shipper uses, with faults on demand. What
// it says of a real storage is checked by running the same suite against one.
type fakeS3 struct {
	mu      sync.Mutex
	objects map[string][]byte
	headers map[string]http.Header
	puts    int
	// fault is asked before each request; it answers and returns true to fail
	// it. With after, the request is carried out and its answer is lost.
	fault func(w http.ResponseWriter, r *http.Request) bool
	after func(r *http.Request) bool
	// what this storage can't do
	noConditions, noCRC32C bool
}

func newFakeS3(t *testing.T) (*fakeS3, *s3Store) {
	t.Helper()
	f := &fakeS3{objects: map[string][]byte{}, headers: map[string]http.Header{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return f, testS3(t, server.URL, "data/")
}

func s3Error(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>because the test says so</Message></Error>", code)
	return true
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault != nil && f.fault(w, r) {
		return
	}
	key, isObject := strings.CutPrefix(r.URL.Path, "/bucket/")
	switch {
	case r.URL.Query().Has("location"):
		fmt.Fprint(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`)
	case isObject && key != "" && r.Method == http.MethodPut:
		f.put(w, r, key)
	case isObject && key != "":
		body, ok := f.objects[key]
		if !ok {
			s3Error(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		for name, v := range f.headers[key] {
			if strings.HasPrefix(name, "X-Amz-Meta-") {
				w.Header()[name] = v
			}
		}
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
		http.ServeContent(w, r, "", timeZero, strings.NewReader(string(body)))
	default:
		fmt.Fprint(w, `<ListBucketResult>`)
		for key := range f.objects {
			if strings.HasPrefix(key, r.URL.Query().Get("prefix")) {
				fmt.Fprintf(w, "<Contents><Key>%s</Key><LastModified>2026-11-23T08:00:00Z</LastModified></Contents>", key)
			}
		}
		fmt.Fprint(w, `</ListBucketResult>`)
	}
}

func (f *fakeS3) put(w http.ResponseWriter, r *http.Request, key string) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		s3Error(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	body := raw
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		body = unchunk(raw)
	}
	conditional := r.Header.Get("If-None-Match") == "*"
	crc := r.Header.Get("X-Amz-Checksum-Crc32c")
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	digest := md5.Sum(body)
	switch _, taken := f.objects[key]; {
	case conditional && f.noConditions:
		s3Error(w, http.StatusNotImplemented, "NotImplemented")
	case crc != "" && f.noCRC32C:
		s3Error(w, http.StatusBadRequest, "InvalidArgument")
	case crc != "" && crc != base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum)):
		s3Error(w, http.StatusBadRequest, "BadDigest")
	case r.Header.Get("Content-Md5") != "" && r.Header.Get("Content-Md5") != base64.StdEncoding.EncodeToString(digest[:]):
		s3Error(w, http.StatusBadRequest, "BadDigest")
	case conditional && taken:
		s3Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
	default:
		f.objects[key], f.headers[key] = body, r.Header.Clone()
		f.puts++
		if f.after != nil && f.after(r) {
			panic(http.ErrAbortHandler) // the answer is lost
		}
		w.Header().Set("ETag", `"x"`)
	}
}

// unchunk undoes the aws-chunked encoding of a signed stream.
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
