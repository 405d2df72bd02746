package ingest

import "bytes"

// oddLines reports whether a raw header has a line that ends with a bare LF, or
// that continues the one before it. A proxy in front may read either otherwise
// than the server does (RFC 9112, sections 2.2 and 5.2).
func oddLines(raw []byte) bool {
	for line := range bytes.Lines(raw) {
		if !bytes.HasSuffix(line, []byte("\r\n")) || line[0] == ' ' || line[0] == '\t' {
			return true
		}
	}
	return false
}
