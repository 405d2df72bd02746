package wal

import (
	"reflect"
	"unsafe"

	tidwall "github.com/tidwall/wal"
)

// keepInMemory is the size up to which the underlying log's buffer is kept for
// the next frame.
const keepInMemory = 2 * maxFrame

// inMemory returns the copy of the active file that the underlying log keeps, so
// that it could be read back, or nil if there is none where it is looked for.
//
// Nothing of ours reads it. To let it grow to the size of a segment costs more
// than all else in a commit: three times the bytes are allocated and copied, and
// collected again, and most of that while appenders wait (measured: 1.2 million
// records a second with it, 3.6 million without). Of a file that it appends to,
// the underlying log needs only what it is about to write.
func inMemory(log *tidwall.Log) *[]byte {
	segments := reflect.ValueOf(log).Elem().FieldByName("segments")
	if segments.Kind() != reflect.Slice || segments.Len() != 1 || segments.Index(0).Kind() != reflect.Pointer {
		return nil
	}
	segment := segments.Index(0).Elem()
	if segment.Kind() != reflect.Struct {
		return nil
	}
	entries := segment.FieldByName("ebuf")
	if !entries.IsValid() || entries.Type() != reflect.TypeFor[[]byte]() {
		return nil
	}
	return (*[]byte)(unsafe.Pointer(entries.UnsafeAddr())) // the pointer keeps the segment alive
}

// forget empties the copy, of which all has been written.
func (a *active) forget() {
	switch {
	case a.inMemory == nil:
	case cap(*a.inMemory) > keepInMemory:
		*a.inMemory = nil
	default:
		*a.inMemory = (*a.inMemory)[:0]
	}
}
