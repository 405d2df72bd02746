package shipper

import (
	"encoding/binary"

	"collectord/wal"
)

// Seen remembers ids, exactly, in bounded memory: at least the last Capacity
// different ones, and at most twice as many, at 32 bytes each of Capacity for
// either half.
type Seen struct {
	capacity  int
	now, then idSet
	forgot    bool
}

// NewSeen remembers at least the last capacity different ids.
func NewSeen(capacity int) *Seen { return &Seen{capacity: capacity} }

// Add notes an id and reports whether it is new.
func (s *Seen) Add(id wal.ID) bool {
	if s.then.has(id) || !s.now.add(id) {
		return false
	}
	if s.now.n == s.capacity {
		s.forgot = s.forgot || s.then.n > 0
		s.then, s.now = s.now, idSet{slots: s.then.slots}
		clear(s.now.slots)
	}
	return true
}

// Forgot reports whether ids were forgotten.
func (s *Seen) Forgot() bool { return s.forgot }

// idSet is an open-addressing hash set. The nil UUID is no member: it stands for
// an empty slot.
type idSet struct {
	slots []wal.ID // a power of two, at most half of them in use
	n     int
}

func (s *idSet) slot(id wal.ID) int {
	// What differs between neighbours are the last bits of a UUIDv7, and bits in
	// the middle between hosts: multiplications spread them upwards, and the upper
	// half is folded down.
	h := (binary.BigEndian.Uint64(id[8:]) ^ binary.BigEndian.Uint64(id[:8])*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	at := int((h ^ h>>32) & uint64(len(s.slots)-1))
	for s.slots[at] != (wal.ID{}) && s.slots[at] != id {
		at = (at + 1) & (len(s.slots) - 1)
	}
	return at
}

func (s *idSet) has(id wal.ID) bool { return s.n > 0 && s.slots[s.slot(id)] == id }

func (s *idSet) add(id wal.ID) bool {
	if 2*s.n >= len(s.slots) {
		old := s.slots
		s.slots = make([]wal.ID, max(1024, 2*len(old)))
		for _, id := range old {
			if id != (wal.ID{}) {
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
