package httpserver

import (
	"bytes"

	"collectord/collectord/http1"
)

// preferences are those of RFC 7240 that are honoured.
type preferences struct {
	strict bool // handling=strict: all or nothing
	ids    bool // return=representation: the answer tells the ids

	handling, returns bool // was there; only the first counts
}

// add reads one Prefer field: preferences separated by commas, each perhaps with
// parameters, which mean nothing for these two.
func (p *preferences) add(field []byte) {
	for len(field) > 0 {
		var item []byte
		item, field = cutOutsideQuotes(field, ',')
		item, _ = cutOutsideQuotes(item, ';')
		name, value, _ := bytes.Cut(item, []byte("="))
		name, value = http1.Trim(name), unquote(http1.Trim(value))
		switch {
		case http1.Is(name, "handling") && !p.handling:
			p.handling, p.strict = true, http1.Is(value, "strict")
		case http1.Is(name, "return") && !p.returns:
			p.returns, p.ids = true, http1.Is(value, "representation")
		}
	}
}

// applied is the value of Preference-Applied, or empty.
func (p preferences) applied() string {
	switch {
	case p.strict && p.ids:
		return "handling=strict, return=representation"
	case p.strict:
		return "handling=strict"
	case p.ids:
		return "return=representation"
	}
	return ""
}

// cutOutsideQuotes is bytes.Cut at a separator that is in no quoted string.
func cutOutsideQuotes(b []byte, separator byte) (before, after []byte) {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch {
		case quoted && b[i] == '\\':
			i++
		case b[i] == '"':
			quoted = !quoted
		case b[i] == separator && !quoted:
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

// unquote strips one pair of quotes.
func unquote(b []byte) []byte {
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		return b[1 : len(b)-1]
	}
	return b
}
