package httpserver

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"collectord/wal"
)

// maxKey is the longest Idempotency-Key.
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

// digest is half a SHA-256, enough to tell keys and bodies apart.
type digest [16]byte

// hashParts hashes parts, each with its length before it, so that no two lists
// of parts are hashed alike.
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

// idDeriver makes the ids of a request that came with an Idempotency-Key. They
// are UUIDv8s (RFC 9562, section 5.8): SHA-256 over token name, key, index in the
// request and the usage's bytes, each with its length before it, so that they
// are the same wherever and whenever the request is repeated.
type idDeriver struct {
	text []byte // token and key with their lengths, then room
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
	at        time.Duration // since the window was made
	prefer    preferences   // whose answer is given again
}

// asked is such a request while it has no answer.
type asked struct {
	body   digest
	prefer preferences
}

// window remembers requests by their Idempotency-Key, as many and as long as it
// is told. The answers are not kept: the same body gives the same ids. A request
// takes about 100 bytes.
type window struct {
	age  time.Duration
	most int
	now  func() time.Duration // tests set another

	mu       sync.Mutex // guards what follows
	underWay map[digest]asked
	ring     []answered        // number n is at n modulo most
	places   map[digest]uint32 // of the latest of a key in the ring
	from, to int               // numbers: those from up to below to are remembered
}

func newWindow(most int, age time.Duration) *window {
	epoch := time.Now()
	w := &window{age: age, most: most, now: func() time.Duration { return time.Since(epoch) }, underWay: map[digest]asked{}}
	w.forgetAll()
	return w
}

// forgetAll leaves nothing of a larger time.
func (w *window) forgetAll() {
	w.ring, w.places, w.from, w.to = nil, map[digest]uint32{}, 0, 0
}

// claim is what a request may do with its key.
type claim int

const (
	claimed    claim = iota // it is the first: it owes settle
	repeated                // it was answered: answer again, store nothing
	underWay                // the first has no answer yet
	mismatched              // the key came with another body
)

// claim looks a key up and makes it the caller's if it is new. The preferences
// are those of the first.
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

// settle tells whether the request that claimed a key was answered 2xx. If not,
// the key is as if it had never come.
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

// expireLocked forgets what is too old.
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
