package usage

import "bytes"

// Form is how usages lie in a text.
type Form int

// The forms.
const (
	Object   Form = iota // one object; what is wrong with it is wrong with the text
	Array                // a JSON array of objects; if it is none, nothing of it can be relied on
	Lines                // NDJSON: an object a line; blank lines count in Index, and hold no value
	Datagram             // objects one after another; after a bad one reading resumes at the next line break
)

// FormOf returns Array if the text is one, if anything, and else Object.
func FormOf(text []byte) Form {
	if start := skipSpace(text, byteOrderMark(text)); start < len(text) && text[start] == '[' {
		return Array
	}
	return Object
}

// Limits bound what a text may hold. Zero is no limit.
type Limits struct {
	Record  int // bytes of a usage (http.max_record)
	Records int // values of a text (http.max_records)
}

// Value is one value of a text: a usage, or what is wrong with it.
type Value struct {
	Index int    // in the array, or of the line
	Start int    // where it begins in the text
	Usage []byte // part of the text; valid if Fault has no code
	Fault Error
}

// Splitter takes one text after another apart into values. It changes a text where
// line breaks are between the tokens of a usage. It keeps memory of up to 256 KiB for
// the names of the next text, and allocates nothing beyond. The zero value is ready.
//
//	s.Reset(text, form, limits)
//	for s.Next() {
//		… s.Value
//	}
//	if fault := s.Err(); fault != nil { … no usage of the text may be taken }
type Splitter struct {
	Value Value // after Next returned true; valid until it is called again

	reading
	scanner scanner
}

// reading is how far a text was read. It is replaced for each text.
type reading struct {
	text   []byte
	form   Form
	limits Limits
	at     int // reading goes on here
	index  int // of the value that comes next
	values int // that were found
	ended  bool
	fault  Error // of the whole text
}

// Reset begins another text, and forgets the one before. Nil is a text, too. A byte
// order mark at the first byte is skipped.
func (s *Splitter) Reset(text []byte, form Form, limits Limits) {
	s.Value = Value{}
	s.reading = reading{text: text, form: form, limits: limits, at: byteOrderMark(text)}
	s.scanner.state = state{}
}

// Err returns what is wrong with the text as a whole, once Next returned false.
func (s *Splitter) Err() *Error {
	if s.fault.Code == "" {
		return nil
	}
	return &s.fault
}

// Next finds the next value. It returns false at the end of the text, or where it
// can't be read on.
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

// end notes what is wrong with the text, and false.
func (s *Splitter) end(fault Error) bool {
	s.ended, s.fault = true, fault
	return false
}

// find looks for a usage in text, and keeps little memory for names.
func (s *Splitter) find(text []byte) *scanner {
	f := &s.scanner
	if f.find(text, s.limits.Record); f.set != nil && cap(f.set.names) > keptNames {
		f.set = nil
	}
	return f
}

// found makes a value of what was found in a text that begins at from in s.text.
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
		// What can't be stored ends somewhere, too, unless the array is not JSON.
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

// arrayEnds reads what follows the array.
func (s *Splitter) arrayEnds() bool {
	if at := skipSpace(s.text, s.at+1); at < len(s.text) {
		return s.end(Error{Code: CodeInvalidJSON, Offset: at, Reason: "something follows the JSON array"})
	}
	return false
}

// datagram reads the text once from front to back, whatever is in it.
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
