package usage

import "bytes"

// Form is the format in which a text contains usages.
type Form int

// Forms of a text.
const (
	Object   Form = iota // one object; a fault in the object is a fault of the text
	Array                // a JSON array of objects; after a syntax error no element may be used
	Lines                // NDJSON: one object per line; blank lines are skipped, but counted in Value.Index
	Datagram             // concatenated objects; after an invalid one reading resumes at the next line
)

// FormOf returns Array if the text begins with '[', otherwise Object. It skips white
// space and a byte order mark.
func FormOf(text []byte) Form {
	if start := skipSpace(text, bomLength(text)); start < len(text) && text[start] == '[' {
		return Array
	}
	return Object
}

// Limits bounds the content of a text. Zero means no limit.
type Limits struct {
	MaxUsageBytes int // bytes per usage (http.max_record)
	MaxUsages     int // values per text (http.max_records)
}

// Value is one value of a text: a usage, or the reason why it is invalid.
type Value struct {
	Index int    // index of the element in the array, or of the line; from 0
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

	progress
	scanner scanner
}

// progress is the progress in one text. It is replaced for each text.
type progress struct {
	text   []byte
	form   Form
	limits Limits
	at     int // offset of the next byte to read
	index  int // of the next value
	values int // number of values found
	done   bool
	fault  Error // of the whole text
}

// Reset starts a new text, which may be nil, and discards the state of the previous
// one. It skips a byte order mark at the start.
func (s *Splitter) Reset(text []byte, form Form, limits Limits) {
	s.Value = Value{}
	s.progress = progress{text: text, form: form, limits: limits, at: bomLength(text)}
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
	if s.done {
		return false
	}
	found := false
	switch s.form {
	case Object:
		found = s.nextObject()
	case Array:
		found = s.nextElement()
	case Lines:
		found = s.nextLine()
	case Datagram:
		return s.nextDatagram()
	}
	if !found {
		if s.done = true; s.values == 0 && s.fault.Code == "" {
			s.fault = Error{Code: CodeEmpty, Offset: len(s.text), Reason: "there is no usage"}
		}
		return false
	}
	if s.limits.MaxUsages > 0 && s.values == s.limits.MaxUsages {
		return s.fail(Error{Code: CodeTooLarge, Offset: s.Value.Start, Reason: "more usages than http.max_records", limit: s.limits.MaxUsages})
	}
	s.values++
	return true
}

// fail sets the fault of the text and returns false.
func (s *Splitter) fail(fault Error) bool {
	s.done, s.fault = true, fault
	return false
}

// scan scans text, and discards a set of names that has become large.
func (s *Splitter) scan(text []byte) *scanner {
	f := &s.scanner
	if f.scanObject(text, s.limits.MaxUsageBytes); f.set != nil && cap(f.set.names) > maxKeptNames {
		f.set = nil
	}
	return f
}

// setValue sets Value from a scan of s.text[from:].
func (s *Splitter) setValue(f *scanner, from int) {
	v := &s.Value
	*v = Value{Index: s.index, Start: from + f.start, Fault: f.fault}
	if v.Fault.Code != "" {
		v.Fault.Offset += from
		return
	}
	v.Usage = f.object()
	if s.limits.MaxUsageBytes > 0 && len(v.Usage) > s.limits.MaxUsageBytes {
		v.Fault = Error{Code: CodeTooLarge, Offset: v.Start, Reason: "usage larger than http.max_record", limit: s.limits.MaxUsageBytes}
	}
}

func (s *Splitter) nextObject() bool {
	if s.values > 0 {
		return false
	}
	f := s.scan(s.text[s.at:])
	f.rejectTrailing()
	if s.setValue(f, s.at); s.Value.Fault.Code != "" {
		return s.fail(s.Value.Fault)
	}
	return true
}

func (s *Splitter) nextLine() bool {
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
		f := s.scan(line)
		f.rejectTrailing()
		s.setValue(f, from)
		s.Value.Index = index
		return true
	}
	return false
}

func (s *Splitter) nextElement() bool {
	text, first := s.text, s.values == 0
	if first {
		s.at = skipSpace(text, s.at) + 1
	}
	s.at = skipSpace(text, s.at)
	switch {
	case s.at == len(text):
		return s.truncated()
	case text[s.at] == ']':
		return s.endArray()
	case !first && text[s.at] != ',':
		return s.fail(Error{Code: CodeInvalidJSON, Offset: s.at, Reason: "neither a comma nor the end of the array"})
	case !first:
		if s.at = skipSpace(text, s.at+1); s.at == len(text) {
			return s.truncated()
		}
		if text[s.at] == ']' {
			return s.fail(Error{Code: CodeInvalidJSON, Offset: s.at, Reason: trailingComma})
		}
	}
	rest := text[s.at:]
	f := s.scan(rest)
	end := f.i
	if f.fault.Code != "" && f.fault.Code != CodeNotAnObject {
		// Find the end of an element that can't be stored. A syntax error ends the
		// array.
		whole, fault := skipValue(rest)
		if f.fault.Code == CodeInvalidJSON {
			fault = f.fault
		}
		if end = whole; fault.Code != "" {
			fault.Offset += s.at
			return s.fail(fault)
		}
	}
	s.setValue(f, s.at)
	s.at += end
	s.index++
	return true
}

func (s *Splitter) truncated() bool {
	return s.fail(Error{Code: CodeInvalidJSON, Offset: len(s.text), Reason: "the text ends too soon"})
}

// endArray checks that only white space follows the array.
func (s *Splitter) endArray() bool {
	if at := skipSpace(s.text, s.at+1); at < len(s.text) {
		return s.fail(Error{Code: CodeInvalidJSON, Offset: at, Reason: "something follows the JSON array"})
	}
	return false
}

// nextDatagram finds the next value. After a fault it skips to the next line, so that each
// byte is scanned once.
func (s *Splitter) nextDatagram() bool {
	if skipSpace(s.text, s.at) == len(s.text) && s.index > 0 {
		return false
	}
	f := s.scan(s.text[s.at:])
	s.setValue(f, s.at)
	s.index++
	s.at += f.i
	if s.Value.Fault.Code != "" && !s.wasCutOff() {
		next := bytes.IndexByte(s.text[s.at:], '\n')
		if next < 0 {
			next = len(s.text) - s.at - 1
		}
		s.at += next + 1
	}
	return true
}

// wasCutOff reports whether an invalid value ends because the next line, at s.at, begins an
// object that is not allowed in it: the next usage.
func (s *Splitter) wasCutOff() bool {
	if s.Value.Fault.Code != CodeInvalidJSON || s.at == len(s.text) || s.text[s.at] != '{' {
		return false
	}
	return bytes.HasSuffix(bytes.TrimRight(s.text[s.Value.Start:s.at], " \t"), []byte("\n"))
}
