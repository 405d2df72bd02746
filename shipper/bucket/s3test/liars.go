package s3test

import (
	"io"
	"net/http"
	"strings"
)

// Liar is a server that answers a PUT with success although the object is missing, damaged
// or unverifiable.
type Liar struct {
	Behaviour
	Kinds []string // failure kinds; no other may be counted
	Hint  string   // text that the log line contains
}

// Liars returns all liars by name.
func Liars() map[string]Liar {
	failingReads := func(respond func(w http.ResponseWriter) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return (r.Method == http.MethodHead || r.Method == http.MethodGet && r.URL.RawQuery == "") && respond(w)
		}
	}
	failingAll := func(respond func(w http.ResponseWriter) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			io.Copy(io.Discard, r.Body)
			return respond(w)
		}
	}
	text := func(kind, body string) func(w http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", kind)
			io.WriteString(w, body)
			return true
		}
	}
	echoHeaders := func(failingAll bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			io.Copy(io.Discard, r.Body)
			for name, v := range r.Header {
				if failingAll || strings.HasPrefix(name, "X-Amz-") {
					w.Header()[name] = v
				}
			}
			w.Header().Del("Content-Length")
			return true
		}
	}
	noChecksumOfHead := func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("X-Amz-Checksum-Mode")
		return false
	}
	const foreign = "no S3 storage answers at shipper.s3.endpoint"
	return map[string]Liar{
		"a login page for every request": {Behaviour{Fault: EveryPage}, []string{"not_a_store"}, foreign},
		"a login page for every put":     {Behaviour{Lie: Page}, []string{"not_a_store"}, foreign},
		"a block page, 403":              {Behaviour{Fault: failingAll(func(w http.ResponseWriter) bool { return LoginPage(w, http.StatusForbidden) })}, []string{"not_a_store"}, foreign},
		"a page of another server, 404":  {Behaviour{Fault: failingAll(func(w http.ResponseWriter) bool { return LoginPage(w, http.StatusNotFound) })}, []string{"not_a_store"}, foreign},
		"a page that refuses, 501":       {Behaviour{Fault: failingAll(func(w http.ResponseWriter) bool { return LoginPage(w, http.StatusNotImplemented) })}, []string{"not_a_store"}, foreign},
		"a redirect to a login page": {Behaviour{Fault: failingAll(func(w http.ResponseWriter) bool {
			w.Header().Set("Location", "http://192.0.2.1/login")
			w.WriteHeader(http.StatusFound)
			return true
		})}, []string{"not_a_store"}, foreign},
		"a page without a type":         {Behaviour{Fault: failingAll(text("", "\n<!-- welcome --><HTML><body>Log in.</body></HTML>"))}, []string{"not_a_store"}, foreign},
		"a page in XHTML":               {Behaviour{Fault: failingAll(text("application/xhtml+xml", `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>Log in.</body></html>`))}, []string{"not_a_store"}, foreign},
		"another API":                   {Behaviour{Fault: failingAll(text("application/json", `{"ok":true}`))}, []string{"not_a_store"}, foreign},
		"200 and nothing at all":        {Behaviour{Fault: failingAll(func(http.ResponseWriter) bool { return true })}, []string{"not_a_store"}, foreign},
		"the headers of each put":       {Behaviour{Fault: echoHeaders(true)}, []string{"not_a_store"}, foreign},
		"the headers of S3 of each put": {Behaviour{Fault: echoHeaders(false)}, []string{"not_a_store"}, foreign},
		"an error of S3 in the body":    {Behaviour{Lie: ErrorBody}, []string{"InternalError"}, "with an error in the body"},
		"a storage that keeps nothing":  {Behaviour{Lie: KeepsNothing}, []string{"unproven"}, "keeps nothing"},
		"a wrong checksum":              {Behaviour{Lie: WrongChecksum}, []string{"BadDigest", "damaged"}, "bytes changed on their way"},
		"a wrong checksum, once":        {Behaviour{Lie: WrongChecksum, Fault: noChecksumOfHead}, []string{"BadDigest", "damaged"}, "bytes changed on their way"},
		"a byte changed, no metadata":   {Behaviour{Lie: GarblesBare, NoMetadata: true, Fault: noChecksumOfHead}, []string{"unproven", "damaged"}, "it differs from the object that was put"},
		"half of it, and no header":     {Behaviour{Lie: TruncatesBare}, []string{"unproven", "damaged"}, "does not keep objects whole"},
		"half of it, and it says so":    {Behaviour{Lie: TruncatesHonestly}, []string{"BadDigest", "damaged"}, "bytes changed on their way"},
		"half of it, by its ETag alone": {Behaviour{Lie: TruncatesHonestly, NoCRC32C: true}, []string{"unproven", "damaged"}, "does not keep objects whole"},
		"a page for every look at it": {
			Behaviour{Lie: Bare, Fault: failingReads(func(w http.ResponseWriter) bool { return LoginPage(w, http.StatusOK) })},
			[]string{"not_a_store"},
			foreign,
		},
		"404 for every look at it": {
			Behaviour{Lie: Bare, Fault: failingReads(func(w http.ResponseWriter) bool { return Error(w, http.StatusNotFound, "NoSuchKey") })},
			[]string{"unproven", "contradiction"},
			"keeps nothing",
		},
		"403 for every look at it": {
			Behaviour{Lie: Bare, Fault: failingReads(func(w http.ResponseWriter) bool { return Error(w, http.StatusForbidden, "AccessDenied") })},
			[]string{"unproven", "AccessDenied"},
			"s3:GetObject",
		},
	}
}
