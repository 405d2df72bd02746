package httpserver

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"collectord/wal"
)

// maxKey is the max length of an Idempotency-Key, in bytes.
const maxKey = 255

func validKey(key []byte) bool {
	if len(key) == 0 || len(key) > maxKey {
		return false
	}
	for _, c := range key {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// digest is the first half of a SHA-256, enough to distinguish keys and bodies.
type digest [16]byte

// hashParts hashes parts, each preceded by its length, so that different lists of parts
// have different hashes.
func hashParts(parts ...[]byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	var length [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// idDeriver derives the ids of a request with an Idempotency-Key. An id is a UUIDv8 (RFC
// 9562, section 5.8): a SHA-256 over client name, key, index in the request and the
// usage's bytes, each preceded by its length. So a repeated request gets the same ids on
// any host at any time.
type idDeriver struct {
	buf         []byte // client name and key with their lengths, then space for the rest
	prefixBytes int
}

func newIDDeriver(token string, key []byte) *idDeriver {
	d := &idDeriver{}
	d.buf = appendPart(appendPart(d.buf, []byte(token)), key)
	d.prefixBytes = len(d.buf)
	return d
}

func appendPart(dst, part []byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, uint64(len(part))), part...)
}

func (d *idDeriver) id(index int, usage []byte) (id wal.ID) {
	var i [8]byte
	binary.BigEndian.PutUint64(i[:], uint64(index))
	d.buf = appendPart(appendPart(d.buf[:d.prefixBytes], i[:]), usage)
	sum := sha256.Sum256(d.buf)
	copy(id[:], sum[:])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// storedRequest is a request with an Idempotency-Key that was answered 2xx.
type storedRequest struct {
	key, body digest
	at        time.Duration // time of the answer, since the window was made
	terms     terms
}

// pendingRequest is a request with an Idempotency-Key that has no answer yet.
type pendingRequest struct {
	body  digest
	terms terms
}

// terms are what the answer to a request depends on besides its body. A repeated request
// gets those of the first one, so that it gets the same answer.
type terms struct {
	prefer    preferences
	maxRecord uint32 // max bytes of a usage; a reload can change it
}

// window remembers requests by their Idempotency-Key, up to a number and an age. It
// stores no answers, because the same body leads to the same ids. A request takes about
// 100 bytes.
type window struct {
	maxAge      time.Duration
	maxRequests int
	now         func() time.Duration // tests replace it

	mu           sync.Mutex // guards the fields below
	underWay     map[digest]pendingRequest
	ring         []storedRequest   // request number n is at index n modulo maxRequests
	latest       map[digest]uint32 // index in ring of the latest request with a key
	oldest, next int               // numbers of requests: the oldest and the next one
}

func newWindow(maxRequests int, maxAge time.Duration) *window {
	epoch := time.Now()
	w := &window{maxAge: maxAge, maxRequests: maxRequests, now: func() time.Duration { return time.Since(epoch) }, underWay: map[digest]pendingRequest{}}
	w.forgetAll()
	return w
}

// forgetAll frees all memory, so that a peak leaves none allocated.
func (w *window) forgetAll() {
	w.ring, w.latest, w.oldest, w.next = nil, map[digest]uint32{}, 0, 0
}

// claim is the result of looking up a key.
type claim int

const (
	claimNew        claim = iota // the key is new: the caller must call settle
	claimRepeated                // the request was answered: answer again and store nothing
	claimUnderWay                // the first request has no answer yet
	claimMismatched              // the first request with the key had another body
)

// claim looks up a key and, if it is new, reserves it for the caller. It returns the terms
// of the first request with that key.
func (w *window) claim(key, body digest, own terms) (claim, terms) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	w.expireLocked(now)
	if _, known := w.underWay[key]; known {
		return claimUnderWay, own
	}
	if place, known := w.latest[key]; known {
		e := &w.ring[place]
		if e.body != body {
			return claimMismatched, own
		}
		return claimRepeated, e.terms
	}
	w.underWay[key] = pendingRequest{body, own}
	return claimNew, own
}

// settle ends a claim. stored reports whether the request was stored; if not, the key is
// forgotten.
func (w *window) settle(key digest, stored bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.underWay[key]
	delete(w.underWay, key)
	if !stored {
		return
	}
	now := w.now()
	if w.next-w.oldest == w.maxRequests {
		w.forgetOldestLocked()
	}
	place := w.next % w.maxRequests
	if place == len(w.ring) {
		w.ring = append(w.ring, storedRequest{})
	}
	w.ring[place] = storedRequest{key, first.body, now, first.terms}
	w.latest[key] = uint32(place)
	w.next++
	w.expireLocked(now)
}

// expireLocked forgets requests older than the window.
func (w *window) expireLocked(now time.Duration) {
	for w.oldest < w.next && now-w.ring[w.oldest%w.maxRequests].at >= w.maxAge {
		w.forgetOldestLocked()
		if w.oldest == w.next {
			w.forgetAll()
		}
	}
}

func (w *window) forgetOldestLocked() {
	delete(w.latest, w.ring[w.oldest%w.maxRequests].key)
	w.oldest++
}
