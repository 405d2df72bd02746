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

// responseError is an answer that must not be trusted, regardless of its status: it is
// not S3's, or it is an error of S3 under a status of success.
type responseError struct {
	status        int
	contentType   string
	server        string
	text          string // of a page
	code, message string // of S3; empty code: the answer is not S3's
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

// Limits of how much of an answer is read before it is trusted, of each answer that is neither an
// object nor a page of a listing, and of such a page.
const (
	peekBytes    = 1 << 10
	maxBody      = 64 << 10
	maxPageBytes = 8 << 20 // 1,000 keys of 1 KiB, with escapes, or 10,000 usual ones
	maxEntries   = 20_000  // the library takes 1 KiB of memory for each, even for an empty one
)

// errHugePage means that a page of a listing would use too much memory.
var errHugePage = fmt.Errorf("a page of the listing has more than %d entries or %d bytes", maxEntries, maxPageBytes)

// checkResponse returns a responseError unless the answer can be S3's. The library checks
// only the status: it accepts a login page as a stored object or an empty listing.
func checkResponse(req *http.Request, resp *http.Response) error {
	var (
		foreign      = &responseError{status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), server: resp.Header.Get("Server")}
		hasRequestID = resp.Header.Get("X-Amz-Request-Id") != "" || resp.Header.Get("X-Amz-Id-2") != ""
		html         = isHTML(resp)
		success      = resp.StatusCode/100 == 2
		query        = req.URL.Query()
		isObject     = success && req.Method == http.MethodGet && len(query) == 0
		isList       = success && req.Method == http.MethodGet && query.Has("list-type")
	)
	if req.Method == http.MethodHead {
		// Some storages send text/html as the type of an empty body.
		if !isTemporary(resp.StatusCode) && (echoesRequest(req, resp) || html && resp.ContentLength != 0 && !hasRequestID) {
			return foreign
		}
		return nil
	}
	if isObject && hasRequestID && !echoesRequest(req, resp) { // its content can be anything
		return nil
	}
	body := bufio.NewReaderSize(resp.Body, peekBytes)
	start, _ := body.Peek(peekBytes) // an error occurs again when the body is read
	rest := io.Reader(body)
	switch {
	case isList:
		rest = io.LimitReader(body, maxPageBytes+1)
	case !isObject: // the library reads it to its end
		rest = io.LimitReader(body, maxBody)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{rest, resp.Body}
	root := rootOf(start)
	notS3Error := func() error {
		if html || root == "html" {
			page, _ := io.ReadAll(io.LimitReader(body, maxBody))
			foreign.text = plainText(page)
		}
		return foreign
	}
	switch {
	case isTemporary(resp.StatusCode): // a load balancer may send a page in place of the storage
		stripHTML(resp, start)
		return nil
	case echoesRequest(req, resp):
		return foreign
	case success && req.Method == http.MethodPut && resp.StatusCode != http.StatusOK: // for example a WebDAV server, or a filer
		return notS3Error()
	case root == "html", html && len(start) > 0 && !slices.Contains([]string{"Error", "ListBucketResult", "LocationConstraint"}, root):
		return notS3Error()
	case success && root == "Error" && resp.Header.Get("ETag") == "":
		return readError(resp.StatusCode, body)
	case isList && root != "ListBucketResult", !isObject && strings.HasPrefix(foreign.contentType, "application/json"):
		return notS3Error()
	case isList:
		return readPage(resp)
	case isObject, hasRequestID, root != "", len(start) == 0:
		return nil
	}
	return notS3Error()
}

// readPage reads a page of a listing and counts its entries.
func readPage(resp *http.Response) error {
	page, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err == nil && (len(page) > maxPageBytes || hasTooManyEntries(page)) {
		err = errHugePage
	}
	resp.Body = io.NopCloser(bytes.NewReader(page))
	return err
}

// hasTooManyEntries reports whether a page has more than maxEntries. Only a page that has
// their word so often is parsed: it may be in keys, which hosts choose.
func hasTooManyEntries(page []byte) bool {
	const element = "Contents"
	if bytes.Count(page, []byte(element)) <= maxEntries {
		return false
	}
	entries := 0
	for d := xml.NewDecoder(bytes.NewReader(page)); entries <= maxEntries; {
		token, err := d.RawToken()
		if err != nil { // here the library ends, too
			return false
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == element {
			entries++
		}
	}
	return true
}

// echoesRequest reports whether the answer repeats the request's own headers. Its
// checksum is then that of the request and proves nothing. No storage returns these
// headers.
func echoesRequest(req *http.Request, resp *http.Response) bool {
	returned := func(name string) bool {
		sent := req.Header.Get(name)
		return sent != "" && resp.Header.Get(name) == sent
	}
	return returned("Authorization") || returned("X-Amz-Date") && returned("X-Amz-Content-Sha256")
}

// isTemporary reports whether the status asks the client to try again, regardless of the
// server.
func isTemporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 500
}

func readError(status int, body io.Reader) error {
	var e struct{ Code, Message string }
	_ = xml.NewDecoder(io.LimitReader(body, maxBody)).Decode(&e) // a truncated error has no code
	if e.Code == "" {
		e.Code = "InternalError"
	}
	return &responseError{status: status, code: e.Code, message: e.Message}
}

// rootOf returns the name of the root element of XML or HTML, without its namespace;
// empty if there is none.
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
