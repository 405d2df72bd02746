package segment

import "encoding/hex"

// ID is a UUID (RFC 9562) in network byte order. The log generates version 7.
type ID [16]byte

// AppendTo appends the 36 characters of the text form (RFC 9562) to dst.
func (id ID) AppendTo(dst []byte) []byte {
	dst = hex.AppendEncode(dst, id[0:4])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[4:6])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[6:8])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[8:10])
	dst = append(dst, '-')
	return hex.AppendEncode(dst, id[10:16])
}

func (id ID) String() string { return string(id.AppendTo(make([]byte, 0, 36))) }
