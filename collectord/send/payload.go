package send

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// maxPayload limits the bytes of a payload file, which is kept in memory.
const maxPayload = 1 << 30

// Payload is a list of usages that the caller supplies.
type Payload struct{ usages [][]byte }

// ReadPayload reads usages: either one per line, unchanged and unchecked, or the elements
// of one JSON array. It returns an error for an empty payload and for more than 1 GiB.
func ReadPayload(r io.Reader) (*Payload, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPayload+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPayload {
		return nil, fmt.Errorf("more than %d MiB", maxPayload>>20)
	}
	p := &Payload{}
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		err = p.readArray(trimmed)
	} else {
		for line := range bytes.Lines(text) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				p.usages = append(p.usages, line)
			}
		}
	}
	if err == nil && len(p.usages) == 0 {
		err = errors.New("there is no usage in it")
	}
	return p, err
}

func (p *Payload) readArray(text []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		v, err := d.ReadValue()
		if err != nil {
			return fmt.Errorf("usage %d of the array: not JSON at byte %d", len(p.usages), d.InputOffset()) // the content stays out of the error
		}
		usage := bytes.Clone(v)
		if bytes.ContainsAny(usage, "\r\n") { // in JSON only between tokens; a newline would end an NDJSON line
			usage = bytes.ReplaceAll(bytes.ReplaceAll(usage, []byte("\n"), []byte(" ")), []byte("\r"), []byte(" "))
		}
		p.usages = append(p.usages, usage)
	}
	return nil
}

func (p *Payload) appendUsage(dst []byte, n int64) []byte {
	return append(dst, p.usages[n%int64(len(p.usages))]...)
}
