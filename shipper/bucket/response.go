package bucket

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// responseError is an answer that must not be believed, whatever its status says:
// one that is not S3's, or an error of S3 under a status that means success.
type responseError struct {
	status        int
	contentType   string
	server        string
	text          string // of a page
	code, message string // of S3; no code: the answer is not S3's
}

func (e *responseError) Error() string {
	if e.code != "" {
		return fmt.Sprintf("the storage answered %d with an error in the body, %.40q: %.200q", e.status, e.code, e.message)
	}
	text := fmt.Sprintf("the answer is not S3's: status %d, content type %.80q", e.status, e.contentType)
	if e.server != "" {
		text += fmt.Sprintf(", server %.80q", e.server)
	}
	if e.text != "" {
		text += fmt.Sprintf(": %q", e.text)
	}
	return text
}

// Bounds of what is read of an answer before it is believed, and of an error.
const (
	peeked       = 1 << 10
	maxErrorBody = 64 << 10
	maxListBody  = 16 << 20 // of a page: 1,000 keys of 1 KiB, with escapes
)

// checkResponse returns a responseError unless the answer can be S3's. The library looks at
// the status alone: it takes a login page for a stored object or an empty listing.
func checkResponse(req *http.Request, resp *http.Response) error {
	var (
		foreign = &responseError{status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), server: resp.Header.Get("Server")}
		named   = resp.Header.Get("X-Amz-Request-Id") != "" || resp.Header.Get("X-Amz-Id-2") != ""
		html    = isHTML(resp)
		success = resp.StatusCode/100 == 2
		query   = req.URL.Query()
		object  = success && req.Method == http.MethodGet && len(query) == 0
		list    = success && req.Method == http.MethodGet && query.Has("list-type")
	)
	if req.Method == http.MethodHead {
		// Some storages give an answer without a body this type.
		if !temporary(resp.StatusCode) && (echoesRequest(req, resp) || html && resp.ContentLength != 0 && !named) {
			return foreign
		}
		return nil
	}
	if object && named && !echoesRequest(req, resp) { // its content can be anything
		return nil
	}
	body := bufio.NewReaderSize(resp.Body, peeked)
	start, _ := body.Peek(peeked) // an error comes again when the body is read
	rest := io.Reader(body)
	if list {
		rest = io.LimitReader(body, maxListBody)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{rest, resp.Body}
	root := rootOf(start)
	notS3 := func() error {
		if html || root == "html" {
			page, _ := io.ReadAll(io.LimitReader(body, maxErrorBody))
			foreign.text = plainText(page)
		}
		return foreign
	}
	switch {
	case temporary(resp.StatusCode): // a load balancer may say so for the storage, as a page
		stripHTML(resp, start)
		return nil
	case echoesRequest(req, resp):
		return foreign
	case success && req.Method == http.MethodPut && resp.StatusCode != http.StatusOK: // as a WebDAV server, or a filer
		return notS3()
	case root == "html", html && len(start) > 0 && !slices.Contains([]string{"Error", "ListBucketResult", "LocationConstraint"}, root):
		return notS3()
	case success && root == "Error" && resp.Header.Get("ETag") == "":
		return readError(resp.StatusCode, body)
	case list && root != "ListBucketResult", !object && strings.HasPrefix(foreign.contentType, "application/json"):
		return notS3()
	case object, named, root != "", len(start) == 0:
		return nil
	}
	return notS3()
}

// echoesRequest reports whether the answer holds the request's own headers, and so also
// the checksum that was sent, whatever became of the object. No storage returns
// these.
func echoesRequest(req *http.Request, resp *http.Response) bool {
	returned := func(name string) bool {
		sent := req.Header.Get(name)
		return sent != "" && resp.Header.Get(name) == sent
	}
	return returned("Authorization") || returned("X-Amz-Date") && returned("X-Amz-Content-Sha256")
}

// temporary reports whether the status asks to come again, whoever says so.
func temporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 500
}

// readError reads an error of S3.
func readError(status int, body io.Reader) error {
	var e struct{ Code, Message string }
	_ = xml.NewDecoder(io.LimitReader(body, maxErrorBody)).Decode(&e) // what is cut off has no code
	if e.Code == "" {
		e.Code = "InternalError"
	}
	return &responseError{status: status, code: e.Code, message: e.Message}
}

// rootOf is the name of the root element of XML or HTML, without its namespace, or
// empty.
func rootOf(text []byte) string {
	rest := bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	for {
		rest = bytes.TrimLeft(rest, " \t\r\n")
		end := ">"
		switch {
		case !bytes.HasPrefix(rest, []byte("<")):
			return ""
		case bytes.HasPrefix(rest, []byte("<?")):
			end = "?>"
		case bytes.HasPrefix(rest, []byte("<!--")):
			end = "-->"
		case bytes.HasPrefix(bytes.ToLower(rest), []byte("<!doctype html")):
			return "html"
		case bytes.HasPrefix(rest, []byte("<!")):
		default:
			name := string(rest[1:])
			if i := strings.IndexAny(name, " \t\r\n/>"); i >= 0 {
				name = name[:i]
			}
			name = name[strings.LastIndexByte(name, ':')+1:]
			if strings.EqualFold(name, "html") {
				return "html"
			}
			return name
		}
		_, after, found := bytes.Cut(rest, []byte(end))
		if !found {
			return ""
		}
		rest = after
	}
}
