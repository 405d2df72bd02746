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
	text []byte // client name and key with their lengths, then space for the rest
	mark int
}

func newIDDeriver(token string, key []byte) *idDeriver {
	d := &idDeriver{}
	d.text = appendPart(appendPart(d.text, []byte(token)), key)
	d.mark = len(d.text)
	return d
}

func appendPart(dst, part []byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, uint64(len(part))), part...)
}

func (d *idDeriver) id(index int, usage []byte) (id wal.ID) {
	var i [8]byte
	binary.BigEndian.PutUint64(i[:], uint64(index))
	d.text = appendPart(appendPart(d.text[:d.mark], i[:]), usage)
	sum := sha256.Sum256(d.text)
	copy(id[:], sum[:])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// answered is a request with an Idempotency-Key that was answered 2xx.
type answered struct {
	key, body digest
	at        time.Duration // time of the answer, since the window was made
	prefer    preferences   // those of the first request, which repeats also get
}

// asked is a request with an Idempotency-Key that has no answer yet.
type asked struct {
	body   digest
	prefer preferences
}

// window remembers requests by their Idempotency-Key, up to a number and an age. It
// stores no answers, because the same body leads to the same ids. A request takes about
// 100 bytes.
type window struct {
	age  time.Duration
	most int
	now  func() time.Duration // tests replace it

	mu       sync.Mutex // guards the fields below
	underWay map[digest]asked
	ring     []answered        // request number n is at index n modulo most
	places   map[digest]uint32 // index in ring of the latest request with a key
	from, to int               // numbers of requests: from is the oldest, to the next one
}

func newWindow(most int, age time.Duration) *window {
	epoch := time.Now()
	w := &window{age: age, most: most, now: func() time.Duration { return time.Since(epoch) }, underWay: map[digest]asked{}}
	w.forgetAll()
	return w
}

// forgetAll frees all memory, so that a peak leaves none allocated.
func (w *window) forgetAll() {
	w.ring, w.places, w.from, w.to = nil, map[digest]uint32{}, 0, 0
}

// claim is the result of looking up a key.
type claim int

const (
	claimed    claim = iota // the key is new: the caller must call settle
	repeated                // the request was answered: answer again and store nothing
	underWay                // the first request has no answer yet
	mismatched              // the key came with another body
)

// claim looks up a key and, if it is new, reserves it for the caller. It returns the
// preferences of the first request with that key.
func (w *window) claim(key, body digest, prefer preferences) (claim, preferences) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	w.expireLocked(now)
	if _, known := w.underWay[key]; known {
		return underWay, prefer
	}
	if place, known := w.places[key]; known {
		e := &w.ring[place]
		if e.body != body {
			return mismatched, prefer
		}
		return repeated, e.prefer
	}
	w.underWay[key] = asked{body, prefer}
	return claimed, prefer
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
	if w.to-w.from == w.most {
		w.forgetOldestLocked()
	}
	place := w.to % w.most
	if place == len(w.ring) {
		w.ring = append(w.ring, answered{})
	}
	w.ring[place] = answered{key, first.body, now, first.prefer}
	w.places[key] = uint32(place)
	w.to++
	w.expireLocked(now)
}

// expireLocked forgets requests older than the window.
func (w *window) expireLocked(now time.Duration) {
	for w.from < w.to && now-w.ring[w.from%w.most].at >= w.age {
		w.forgetOldestLocked()
		if w.from == w.to {
			w.forgetAll()
		}
	}
}

func (w *window) forgetOldestLocked() {
	delete(w.places, w.ring[w.from%w.most].key)
	w.from++
}
