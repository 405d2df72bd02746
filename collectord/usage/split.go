package usage

import "bytes"

// Form is the format in which a text contains usages.
type Form int

// Forms of a text.
const (
	Object   Form = iota // one object; a fault in the object is a fault of the text
	Array                // a JSON array of objects; after a syntax error no element may be used
	Lines                // NDJSON: one object per line; blank lines are skipped, but counted in Value.Index
	Datagram             // concatenated objects; after an invalid one reading resumes at the next line break
)

// FormOf returns Array if the text begins with '[', otherwise Object. It skips white
// space and a byte order mark.
func FormOf(text []byte) Form {
	if start := skipSpace(text, byteOrderMark(text)); start < len(text) && text[start] == '[' {
		return Array
	}
	return Object
}

// Limits bounds the content of a text. Zero means no limit.
type Limits struct {
	Record  int // bytes per usage (http.max_record)
	Records int // values per text (http.max_records)
}

// Value is one value of a text: a usage, or the reason why it is invalid.
type Value struct {
	Index int    // of the element in the array, or of the line; from 0
	Start int    // byte offset in the text
	Usage []byte // part of the text; valid only if Fault.Code is empty
	Fault Error
}

// Splitter splits texts into values. It modifies a text that has line breaks between
// the tokens of a usage. It keeps up to 256 KiB of memory for the names of the next
// text. The zero value is ready to use.
//
//	s.Reset(text, form, limits)
//	for s.Next() {
//		… s.Value
//	}
//	if fault := s.Err(); fault != nil { … reject the whole text }
type Splitter struct {
	Value Value // set by Next; valid until the next call of Next

	reading
	scanner scanner
}

// reading is the progress in one text. It is replaced for each text.
type reading struct {
	text   []byte
	form   Form
	limits Limits
	at     int // offset of the next byte to read
	index  int // of the next value
	values int // number of values found
	ended  bool
	fault  Error // of the whole text
}

// Reset starts a new text, which may be nil, and discards the state of the previous
// one. It skips a byte order mark at the start.
func (s *Splitter) Reset(text []byte, form Form, limits Limits) {
	s.Value = Value{}
	s.reading = reading{text: text, form: form, limits: limits, at: byteOrderMark(text)}
	s.scanner.state = state{}
}

// Err returns the fault of the text as a whole, or nil. It is valid after Next returned
// false.
func (s *Splitter) Err() *Error {
	if s.fault.Code == "" {
		return nil
	}
	return &s.fault
}

// Next finds the next value. It returns false at the end of the text, or at a fault of
// the text as a whole.
func (s *Splitter) Next() bool {
	if s.ended {
		return false
	}
	found := false
	switch s.form {
	case Object:
		found = s.object()
	case Array:
		found = s.element()
	case Lines:
		found = s.line()
	case Datagram:
		return s.datagram()
	}
	if !found {
		if s.ended = true; s.values == 0 && s.fault.Code == "" {
			s.fault = Error{Code: CodeEmpty, Offset: len(s.text), Reason: "there is no usage"}
		}
		return false
	}
	if s.limits.Records > 0 && s.values == s.limits.Records {
		return s.end(Error{Code: CodeTooLarge, Offset: s.Value.Start, Reason: "more usages than http.max_records", limit: s.limits.Records})
	}
	s.values++
	return true
}

// end sets the fault of the text and returns false.
func (s *Splitter) end(fault Error) bool {
	s.ended, s.fault = true, fault
	return false
}

// find scans text, and discards a set of names that has become large.
func (s *Splitter) find(text []byte) *scanner {
	f := &s.scanner
	if f.find(text, s.limits.Record); f.set != nil && cap(f.set.names) > keptNames {
		f.set = nil
	}
	return f
}

// found sets Value from a scan of s.text[from:].
func (s *Splitter) found(f *scanner, from int) {
	v := &s.Value
	*v = Value{Index: s.index, Start: from + f.start, Fault: f.fault}
	if v.Fault.Code != "" {
		v.Fault.Offset += from
		return
	}
	v.Usage = f.usage()
	if s.limits.Record > 0 && len(v.Usage) > s.limits.Record {
		v.Fault = Error{Code: CodeTooLarge, Offset: v.Start, Reason: "usage larger than http.max_record", limit: s.limits.Record}
	}
}

func (s *Splitter) object() bool {
	if s.values > 0 {
		return false
	}
	f := s.find(s.text[s.at:])
	f.endsIn()
	if s.found(f, s.at); s.Value.Fault.Code != "" {
		return s.end(s.Value.Fault)
	}
	return true
}

func (s *Splitter) line() bool {
	for s.at < len(s.text) {
		line, from := s.text[s.at:], s.at
		if n := bytes.IndexByte(line, '\n'); n >= 0 {
			line = line[:n]
		}
		s.at += len(line) + 1
		index := s.index
		s.index++
		if skipSpace(line, 0) == len(line) {
			continue
		}
		f := s.find(line)
		f.endsIn()
		s.found(f, from)
		s.Value.Index = index
		return true
	}
	return false
}

func (s *Splitter) element() bool {
	text, first := s.text, s.values == 0
	if first {
		s.at = skipSpace(text, s.at) + 1
	}
	s.at = skipSpace(text, s.at)
	switch {
	case s.at == len(text):
		return s.endsTooSoon()
	case text[s.at] == ']':
		return s.arrayEnds()
	case !first && text[s.at] != ',':
		return s.end(Error{Code: CodeInvalidJSON, Offset: s.at, Reason: "neither a comma nor the end of the array"})
	case !first:
		if s.at = skipSpace(text, s.at+1); s.at == len(text) {
			return s.endsTooSoon()
		}
		if text[s.at] == ']' {
			return s.end(Error{Code: CodeInvalidJSON, Offset: s.at, Reason: trailingComma})
		}
	}
	rest := text[s.at:]
	f := s.find(rest)
	end := f.i
	if f.fault.Code != "" && f.fault.Code != CodeNotAnObject {
		// Find the end of an element that can't be stored. A syntax error ends the
		// array.
		whole, fault := follow(rest)
		if f.fault.Code == CodeInvalidJSON {
			fault = f.fault
		}
		if end = whole; fault.Code != "" {
			fault.Offset += s.at
			return s.end(fault)
		}
	}
	s.found(f, s.at)
	s.at += end
	s.index++
	return true
}

func (s *Splitter) endsTooSoon() bool {
	return s.end(Error{Code: CodeInvalidJSON, Offset: len(s.text), Reason: "the text ends too soon"})
}

// arrayEnds checks that only white space follows the array.
func (s *Splitter) arrayEnds() bool {
	if at := skipSpace(s.text, s.at+1); at < len(s.text) {
		return s.end(Error{Code: CodeInvalidJSON, Offset: at, Reason: "something follows the JSON array"})
	}
	return false
}

// datagram finds the next value. After a fault it skips to the next line, so that each
// byte is scanned once.
func (s *Splitter) datagram() bool {
	if skipSpace(s.text, s.at) == len(s.text) && s.index > 0 {
		return false
	}
	f := s.find(s.text[s.at:])
	s.found(f, s.at)
	s.index++
	s.at += f.i
	if s.Value.Fault.Code != "" {
		next := bytes.IndexByte(s.text[s.at:], '\n')
		if next < 0 {
			next = len(s.text) - s.at - 1
		}
		s.at += next + 1
	}
	return true
}
