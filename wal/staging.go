package wal

import "encoding/binary"

// staging holds encoded records in the order in which they came, until a commit
// takes them. Their id and time are left blank until then, so that ids, times
// and sequence numbers agree in order.
type staging struct {
	buf  []byte
	from int // start of the first record that was not taken
}

func (s *staging) size() int { return len(s.buf) - s.from }

// add encodes r unless the records would be more than limit bytes.
func (s *staging) add(r *Record, limit int64) bool {
	if int64(s.size()+r.size()) > limit {
		return false
	}
	if s.from > 0 && len(s.buf)+r.size() > cap(s.buf) && s.from >= len(s.buf)/2 {
		s.buf = s.buf[:copy(s.buf, s.buf[s.from:])]
		s.from = 0
	}
	s.buf = appendRecord(s.buf, r)
	return true
}

// head returns the first record, or nil. It is valid until the next add.
func (s *staging) head() []byte {
	b := s.buf[s.from:]
	if len(b) == 0 {
		return nil
	}
	return b[:recordOverhead+int(b[25])+int(binary.LittleEndian.Uint32(b[26:]))]
}

// drop forgets the first n bytes.
func (s *staging) drop(n int) {
	s.from += n
	if s.from == len(s.buf) {
		s.buf, s.from = s.buf[:0], 0
	}
}
