package wal

import (
	"crypto/rand"
	"encoding/binary"
)

// idSource draws UUIDv7s (RFC 9562) that rise strictly, even when the clock goes back.
//
// The 74 bits below the timestamp are a counter. It starts at a random number, drawn
// for every segment, and rises by one for each id (RFC 9562, section 6.2, method 2).
// The ids are as unique across hosts as with fresh random bits. They compress well,
// since neighbours differ only in their last digits.
type idSource struct {
	millis   int64  // timestamp of the last id
	hi       uint16 // upper 12 bits of the 74 (rand_a)
	lo       uint64 // lower 62 bits of the 74 (rand_b)
	reseeded bool   // the next id needs a later timestamp than the last
}

// reseed draws a new random start. Its top bit is zero, so the counter can't overflow.
func (s *idSource) reseed() {
	var b [10]byte
	rand.Read(b[:]) // never fails (crypto/rand, since Go 1.24)
	s.hi = binary.BigEndian.Uint16(b[:]) & 0x07ff
	s.lo = binary.BigEndian.Uint64(b[2:]) &^ (3 << 62)
	s.reseeded = true
}

// reserve returns a source of n ids for records received at millis since 1970. These
// ids are above all ids drawn before, and below all that s draws from now on.
func (s *idSource) reserve(millis int64, n int) idSource {
	s.advance(millis)
	share := *s
	s.skip(uint64(n))
	return share
}

// next returns the id for a record received at millis since 1970.
func (s *idSource) next(millis int64) (id ID) {
	s.advance(millis)
	s.skip(1)
	binary.BigEndian.PutUint64(id[:], uint64(s.millis)<<16|0x7000|uint64(s.hi))
	binary.BigEndian.PutUint64(id[8:], 2<<62|s.lo)
	return id
}

// advance sets the timestamp of the next id. The timestamp never falls.
func (s *idSource) advance(millis int64) {
	switch {
	case millis > s.millis:
		s.millis = millis
	case s.reseeded: // the new start may be below the last counter
		s.millis++
	}
	s.reseeded = false
}

// skip advances the counter by n.
func (s *idSource) skip(n uint64) {
	s.lo += n
	if s.lo >= 1<<62 {
		s.lo, s.hi = s.lo-1<<62, s.hi+1
	}
}
