package s3test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// How a storage may deal with If-None-Match: *.
const (
	Honour   = iota
	Refuse   // 501
	Misjudge // 400 InvalidArgument
	Ignore   // and replace
)

// How a storage may deal with x-amz-server-side-encryption and x-amz-storage-class.
const (
	Obey         = iota // and say so
	Disregard           // take the header, and do nothing
	KeepHeader          // the same, and return the header with HEAD alone
	Archive             // of a class: obey, and refuse to read what has it
	ObeySilently        // do it, and say nothing
)

// Behaviour is what a server does other than S3 does.
type Behaviour struct {
	// Fault is asked before each request. It answers, or aborts, and returns true to fail
	// the request. It may wait.
	Fault func(w http.ResponseWriter, r *http.Request) bool
	// Stored is told of each object that was put, before it is answered; true
	// means that the answer is lost. It may wait.
	Stored func(key string) (lost bool)

	Conditions int  // Honour, Refuse, …
	NoCRC32C   bool // refuse x-amz-checksum-crc32c
	NoMD5      bool // refuse Content-MD5
	NoMetadata bool // forget user metadata

	// Take the checksum and don't verify it.
	BlindCRC32C, BlindMD5, BlindSHA256 bool
	NoChunks                           bool // refuse a body in signed chunks, as Swift 2.30 does
	Encryption, Class                  int  // Obey, Disregard, …

	Lie  Lie     // of puts
	Read ReadLie // of gets
	List ListLie // of lists
	// Forget is how long after a put the object is gone; 0: never.
	Forget time.Duration

	// Each is asked for the behaviour towards one request, in the place of this one.
	Each func(r *http.Request) Behaviour
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

	// Of these the ETag and the checksum are those of what was sent.
	ConfirmsNothing // nothing is kept
	ConfirmsHalf    // half of it is kept
	ConfirmsTwice   // it is kept twice, one behind the other
	ConfirmsGarbled // one byte of what is kept is another
	ConfirmsOther   // what is kept is another object
)

// ReadLie is what a server does to the body of an object that is read.
type ReadLie int

// The lies of gets.
const (
	ReadTruth  ReadLie = iota
	BreaksOff          // in the middle of the body
	ReadsPart          // as if that were all
	ReadsTwice         // one behind the other
	ReadsOther         // the body of another object
)

// ListLie is what a server does to a listing.
type ListLie int

// The lies of lists.
const (
	ListTruth    ListLie = iota
	ListsPart            // the first page, as if that were all
	ListsTwice           // each page
	ListsForever         // the first page, again and again
	ListsForeign         // keys that were not asked for
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
	case WrongChecksum, GarblesBare, ConfirmsGarbled:
		garbled := slices.Clone(body)
		garbled[len(garbled)/10]++ // before the metadata
		return garbled
	case TruncatesBare, TruncatesHonestly, ConfirmsHalf:
		return body[:len(body)/2]
	case ConfirmsTwice:
		return slices.Concat(body, body)
	}
	return body
}
