package audit

import (
	"encoding/binary"

	"collectord/shipper/bucket"
)

// RecentIDs remembers ids exactly, in bounded memory: at least the last Capacity different
// ids and at most twice as many. Each of its two halves takes 32 bytes per id of Capacity.
type RecentIDs struct {
	capacity          int
	current, previous idSet
	hasForgotten      bool
}

// NewRecentIDs returns a RecentIDs that remembers at least the last capacity different
// ids.
func NewRecentIDs(capacity int) *RecentIDs { return &RecentIDs{capacity: capacity} }

// Add remembers an id and reports whether it is new.
func (s *RecentIDs) Add(id bucket.ID) bool {
	if s.previous.has(id) || !s.current.add(id) {
		return false
	}
	if s.current.n == s.capacity {
		s.hasForgotten = s.hasForgotten || s.previous.n > 0
		s.previous, s.current = s.current, idSet{slots: s.previous.slots}
		clear(s.current.slots)
	}
	return true
}

// HasForgotten reports whether ids were forgotten.
func (s *RecentIDs) HasForgotten() bool { return s.hasForgotten }

// idSet is a hash set with open addressing. The nil UUID marks an empty slot and can't be
// a member.
type idSet struct {
	slots []bucket.ID // length is a power of two; at most half are in use
	n     int
}

func (s *idSet) slot(id bucket.ID) int {
	// UUIDv7s of one host differ in their last bits, and those of different hosts in the
	// middle bits. The multiplications spread both upwards, and the shift folds the upper
	// half down.
	h := (binary.BigEndian.Uint64(id[8:]) ^ binary.BigEndian.Uint64(id[:8])*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	at := int((h ^ h>>32) & uint64(len(s.slots)-1))
	for s.slots[at] != (bucket.ID{}) && s.slots[at] != id {
		at = (at + 1) & (len(s.slots) - 1)
	}
	return at
}

func (s *idSet) has(id bucket.ID) bool { return s.n > 0 && s.slots[s.slot(id)] == id }

func (s *idSet) add(id bucket.ID) bool {
	if 2*s.n >= len(s.slots) {
		old := s.slots
		s.slots = make([]bucket.ID, max(1024, 2*len(old)))
		for _, id := range old {
			if id != (bucket.ID{}) {
				s.slots[s.slot(id)] = id
			}
		}
	}
	at := s.slot(id)
	if s.slots[at] == id {
		return false
	}
	s.slots[at] = id
	s.n++
	return true
}
