package ingest

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

// answered is a request with an Idempotency-Key: under way, or answered 2xx.
type answered struct {
	body     digest
	at       time.Duration // since the window was made, when it was answered
	serial   uint64
	underWay bool
	prefer   preferences // of the first, whose answer is given again
}

// window remembers requests by their Idempotency-Key, as many and as long as it
// is told. The answers are not kept: the same body gives the same ids.
type window struct {
	age  time.Duration
	most int
	now  func() time.Duration // tests set another

	mu      sync.Mutex // guards what follows
	entries map[digest]answered
	order   []place // oldest first; places whose serial is another's are stale
	serial  uint64
}

type place struct {
	key    digest
	serial uint64
}

func newWindow(most int, age time.Duration) *window {
	epoch := time.Now()
	return &window{age: age, most: most, now: func() time.Duration { return time.Since(epoch) }, entries: map[digest]answered{}}
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
	switch e, known := w.entries[key]; {
	case known && e.underWay:
		return underWay, prefer
	case known && now-e.at < w.age:
		if e.body != body {
			return mismatched, prefer
		}
		return repeated, e.prefer
	}
	w.entries[key] = answered{body: body, underWay: true, prefer: prefer}
	return claimed, prefer
}

// settle tells whether the request that claimed a key was answered 2xx. If not,
// the key is as if it had never come.
func (w *window) settle(key digest, stored bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !stored {
		delete(w.entries, key)
		return
	}
	w.serial++
	e := w.entries[key]
	e.underWay, e.at, e.serial = false, w.now(), w.serial
	w.entries[key] = e
	w.order = append(w.order, place{key, w.serial})
	w.expireLocked(e.at)
}

// expireLocked forgets what is too old or too many.
func (w *window) expireLocked(now time.Duration) {
	for len(w.order) > 0 {
		oldest := w.order[0]
		e, known := w.entries[oldest.key]
		current := known && e.serial == oldest.serial
		if current && len(w.order) <= w.most && now-e.at < w.age {
			return
		}
		if current {
			delete(w.entries, oldest.key)
		}
		w.order = w.order[1:]
	}
}
