package wal

import (
	"crypto/rand"
	"encoding/binary"
)

// idSource draws UUIDv7s that rise strictly, even when the clock goes back.
//
// The 74 bits below the timestamp are a random start, drawn for every segment,
// plus one for each id: as unique across hosts as fresh bits would be, and
// nearly free once compressed, since only the last digits of neighbours differ
// (RFC 9562, section 6.2, method 2).
type idSource struct {
	millis int64  // of the last id
	hi     uint16 // upper 12 bits of the 74 (rand_a)
	lo     uint64 // lower 62 bits of the 74 (rand_b)
	fresh  bool   // the next id must have a later timestamp than the last
}

// reseed draws a new start. The top bit stays clear, so that counting up from
// it never overflows.
func (s *idSource) reseed() {
	var b [10]byte
	rand.Read(b[:]) // never fails (crypto/rand, since Go 1.24)
	s.hi = binary.BigEndian.Uint16(b[:]) & 0x07ff
	s.lo = binary.BigEndian.Uint64(b[2:]) &^ (3 << 62)
	s.fresh = true
}

// reserve returns a source of n ids for records received at millis. They are
// above all ids that were drawn before, and below all that s draws from now on.
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

// advance sets the timestamp of the next id, which never falls.
func (s *idSource) advance(millis int64) {
	switch {
	case millis > s.millis:
		s.millis = millis
	case s.fresh: // the new start may be below the old one
		s.millis++
	}
	s.fresh = false
}

// skip passes over n values of the counter.
func (s *idSource) skip(n uint64) {
	s.lo += n
	if s.lo >= 1<<62 {
		s.lo, s.hi = s.lo-1<<62, s.hi+1
	}
}
