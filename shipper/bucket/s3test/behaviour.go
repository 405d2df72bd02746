package s3test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Reactions of a server to If-None-Match: * and If-Match.
const (
	Honour          = iota
	Refuse          // 501
	RefuseAsInvalid // 400 InvalidArgument
	Ignore          // accept and replace
)

// Reactions of a server to x-amz-server-side-encryption and x-amz-storage-class.
const (
	Obey         = iota // and confirm it
	Disregard           // accept the header without effect
	KeepHeader          // as Disregard, but HEAD and GET return the header
	Archive             // storage class only: obey, and refuse to read the object
	ObeySilently        // obey without confirmation
)

// Behaviour describes how a server differs from S3.
type Behaviour struct {
	// Fault is called before each request. It may wait. To fail the request, it writes a
	// response or aborts, and returns true.
	Fault func(w http.ResponseWriter, r *http.Request) bool
	// Stored is called for each object that was put, before the response is sent. It may
	// wait. It returns true to drop the response.
	Stored func(key string) (lost bool)

	Conditions int  // Honour, Refuse, …
	NoCRC32C   bool // reject x-amz-checksum-crc32c
	NoMD5      bool // reject Content-MD5
	NoMetadata bool // discard user metadata

	// Accept the checksum without verification.
	BlindCRC32C, BlindMD5, BlindSHA256 bool
	NoChunks                           bool // reject a body in signed chunks, as Swift 2.30 does
	Encryption, Class                  int  // Obey, Disregard, …

	Lie  Lie     // for PUT
	Read ReadLie // for GET
	List ListLie // for lists
	// Forget is how long after a PUT the object disappears; 0: never.
	Forget time.Duration

	// Each, if set, returns the behaviour for one request and replaces all other fields.
	Each func(r *http.Request) Behaviour
}

// Lie is a fault of a PUT that the server answers with 200: it stores something else, or
// returns wrong headers.
type Lie int

// Faults of a PUT.
const (
	Truth             Lie = iota
	Page                  // a login page; stores nothing
	ErrorBody             // an S3 error in the body; stores nothing
	Bare                  // stores the object; returns no ETag and no checksum
	AnyETag               // stores the object; returns an ETag that is not its MD5, and no checksum
	KeepsNothing          // as AnyETag, but stores nothing
	WrongChecksum         // changes one byte; returns the checksum of the changed bytes
	GarblesBare           // changes one byte; returns no ETag and no checksum
	TruncatesBare         // stores half of the body; returns no ETag and no checksum
	TruncatesHonestly     // stores half of the body; returns the ETag and checksum of that half

	// The lies below return the ETag and the checksum of the bytes that were sent.
	ConfirmsNothing // stores nothing
	ConfirmsHalf    // stores half of the body
	ConfirmsTwice   // stores the body twice, concatenated
	ConfirmsGarbled // changes one byte
	ConfirmsOther   // stores the content of another object
)

// ReadLie is a fault in the body of a GET.
type ReadLie int

// Faults of a GET.
const (
	ReadTruth  ReadLie = iota
	BreaksOff          // closes the connection in the middle of the body
	ReadsPart          // returns a part as a complete body
	ReadsTwice         // returns the body twice, concatenated
	ReadsOther         // returns the body of another object
)

// ListLie is a fault in a listing.
type ListLie int

// Faults of a listing.
const (
	ListTruth    ListLie = iota
	ListsPart            // returns the first page as the complete list
	ListsTwice           // returns each key of a page twice
	ListsForever         // returns the first page repeatedly
	ListsForeign         // adds keys outside the prefix
)

// LoginPage responds as a captive portal does. It returns true, so that a Fault can return
// its result.
func LoginPage(w http.ResponseWriter, status int) bool {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
	page := "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>Log in.</body></html>\n"
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	w.WriteHeader(status)
	fmt.Fprint(w, page)
	return true
}

// EveryPage is a Fault that responds to each request with a login page.
func EveryPage(w http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body)
	return LoginPage(w, http.StatusOK)
}

// storedBody returns what a server with this lie stores of a body.
func (l Lie) storedBody(body []byte) []byte {
	switch l {
	case WrongChecksum, GarblesBare, ConfirmsGarbled:
		garbled := slices.Clone(body)
		garbled[len(garbled)/10]++ // an offset before the metadata
		return garbled
	case TruncatesBare, TruncatesHonestly, ConfirmsHalf:
		return body[:len(body)/2]
	case ConfirmsTwice:
		return slices.Concat(body, body)
	}
	return body
}
