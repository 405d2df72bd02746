package s3test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
)

// How a storage may deal with If-None-Match: *.
const (
	Honour   = iota
	Refuse   // 501
	Misjudge // 400 InvalidArgument
	Ignore   // and replace
)

// Behaviour is what a server does other than S3 does.
type Behaviour struct {
	// Fault is asked before each request. It answers, or panics with
	// http.ErrAbortHandler, and returns true to fail the request. It may wait.
	Fault func(w http.ResponseWriter, r *http.Request) bool
	// Stored is told of each object that was put, before it is answered; true
	// means that the answer is lost. It may wait.
	Stored func(key string) (lost bool)

	Conditions int  // Honour, Refuse, …
	NoCRC32C   bool // refuse x-amz-checksum-crc32c
	NoMD5      bool // refuse Content-MD5
	NoMetadata bool // forget user metadata

	Lie Lie // of puts; Fault can lie about the rest
}

// Lie is what a server does to an object, or says of it, that it should not.
type Lie int

// The lies. Each answers 200.
const (
	Truth             Lie = iota
	Page                  // a login page; nothing is kept
	ErrorBody             // an error of S3 in the body; nothing is kept
	Bare                  // no header says what is stored; it is
	AnyETag               // an ETag that is not the MD5, and no checksum; it is stored
	KeepsNothing          // the same; nothing is kept
	WrongChecksum         // the checksum of other bytes, which are what is kept
	GarblesBare           // one byte of what is kept is another, and nothing said
	TruncatesBare         // half of it is kept, and nothing said
	TruncatesHonestly     // half of it is kept; ETag and checksum are those of the half
)

// LoginPage answers as the access point of a hotel does. It returns true, for
// faults.
func LoginPage(w http.ResponseWriter, status int) bool {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
	page := "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>Log in.</body></html>\n"
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	w.WriteHeader(status)
	fmt.Fprint(w, page)
	return true
}

// EveryPage is a Fault: a login page for every request.
func EveryPage(w http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body)
	return LoginPage(w, http.StatusOK)
}

// keeps is what a liar keeps of an object.
func (l Lie) keeps(body []byte) []byte {
	switch l {
	case WrongChecksum, GarblesBare:
		garbled := slices.Clone(body)
		garbled[len(garbled)/10]++ // before the metadata
		return garbled
	case TruncatesBare, TruncatesHonestly:
		return body[:len(body)/2]
	}
	return body
}
