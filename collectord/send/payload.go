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
type Payload struct {
	usages [][]byte
	lines  []byte // the text, if each usage is a line of it
}

// ReadPayload reads usages: either one per line, unchanged and unchecked, or the elements
// of one JSON array. It returns an error for an empty payload, a compressed one, and for
// more than 1 GiB.
func ReadPayload(r io.Reader) (*Payload, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPayload+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPayload {
		return nil, fmt.Errorf("more than %d MiB", maxPayload>>20)
	}
	if bytes.HasPrefix(text, []byte("\x1f\x8b")) || bytes.HasPrefix(text, []byte("\x28\xb5\x2f\xfd")) {
		return nil, errors.New("it is compressed: decompress it (gzip -dc or zstd -dc) into --payload -; --compress compresses requests")
	}
	p := &Payload{}
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		err = p.readArray(trimmed)
	} else {
		p.lines = text
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
			return fmt.Errorf("usage %d of the array: not JSON at byte %d of the array", len(p.usages)+1, d.InputOffset()) // the content stays out of the error
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

// where names usages of a run by their lines in the payload, or by their numbers from 1. A
// nil payload stands for made-up usages.
func (p *Payload) where(first, usages int64) string {
	last, what := first+usages-1, "usage"
	if p != nil {
		count := int64(len(p.usages))
		first, last = first%count, last%count
		if p.lines != nil {
			first, last, what = p.line(first), p.line(last), "line"
		}
	}
	if usages == 1 {
		return fmt.Sprintf("%s %d", what, first+1)
	}
	return fmt.Sprintf("%ss %d to %d", what, first+1, last+1)
}

// line returns the line of a usage, counted from 0.
func (p *Payload) line(usage int64) (n int64) {
	for line := range bytes.Lines(p.lines) {
		if len(bytes.TrimSpace(line)) > 0 {
			if usage == 0 {
				return n
			}
			usage--
		}
		n++
	}
	return n
}

// isObject reports whether usage n of a run is one JSON object.
func (p *Payload) isObject(n int64) bool {
	v := jsontext.Value(p.usages[n%int64(len(p.usages))])
	return v.Kind() == '{' && v.IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}
