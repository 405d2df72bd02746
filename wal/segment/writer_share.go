package segment

import (
	"reflect"
	"unsafe"
)

// buffers are what the log library keeps of the entries it writes, to read them
// back: a copy in a batch, a copy behind all that is in the file, and the place of
// each entry in that. Nothing of ours reads them.
//
// They take more time than the rest of a commit, and memory for each byte and each
// entry of a segment; make bench measures both. To append, the library needs no
// more than the entry in hand. So it is given that entry's own memory as its
// buffers, in which it finds the copies made.
//
// Only unexported fields lead there: no call of the library empties the buffers of
// the file that it appends to. They are used only if each has the expected type, if
// the first entry of a file arrives as it should, and as long as the library is
// found, after every entry, to have used nothing but the shared memory. Otherwise
// it keeps its copies, and segments are small.
type buffers struct {
	batch, file *[]byte
	places      reflect.Value // the slice of places in file
}

// buffersOf finds the buffers of a log, or returns nil if they are not where they
// are looked for.
func buffersOf(log library) *buffers {
	pointer := reflect.ValueOf(log)
	if pointer.Kind() != reflect.Pointer {
		return nil
	}
	segments := fieldOf(pointer.Elem(), "segments")
	if segments.Kind() != reflect.Slice || segments.Len() != 1 || segments.Index(0).Kind() != reflect.Pointer {
		return nil
	}
	segment := segments.Index(0).Elem()
	batch, file := bytesOf(fieldOf(pointer.Elem(), "wbatch"), "datas"), bytesOf(segment, "ebuf")
	places := fieldOf(segment, "epos")
	if batch == nil || file == nil || places.Kind() != reflect.Slice {
		return nil
	}
	places = reflect.NewAt(places.Type(), unsafe.Pointer(places.UnsafeAddr())).Elem() // one that can be set
	return &buffers{batch, file, places}
}

// fieldOf returns a field, or the zero Value if there is none.
func fieldOf(v reflect.Value, name string) reflect.Value {
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

func bytesOf(v reflect.Value, name string) *[]byte {
	f := fieldOf(v, name)
	if !f.IsValid() || f.Type() != reflect.TypeFor[[]byte]() {
		return nil
	}
	return (*[]byte)(unsafe.Pointer(f.UnsafeAddr())) // the pointer keeps alive what it points into
}

// share has the library make its copies of the entry in buf in place: the entry is
// appended to itself, and its length to what is before it.
func (b *buffers) share(buf []byte) {
	entry, whole := sharedParts(buf)
	*b.batch, *b.file = entry[:0], whole[:0]
	b.places.SetLen(0)
}

// unshare leaves the library nothing of buf, and reports whether it has used that
// memory and no other.
func (b *buffers) unshare(buf []byte) (asExpected bool) {
	entry, whole := sharedParts(buf)
	asExpected = isSame(*b.batch, entry) && isSame(*b.file, whole) && len(*b.file) == len(whole) && b.places.Len() == 1
	*b.batch, *b.file = nil, nil
	return asExpected
}

// sharedParts are the entry in buf, and the same with its length in front.
func sharedParts(buf []byte) (entry, whole []byte) {
	start := EntryRoom - uvarintLen(uint64(len(buf)-EntryRoom))
	return buf[EntryRoom:len(buf):len(buf)], buf[start:len(buf):len(buf)]
}

// isSame reports whether a and b have the same memory, which is all of b.
func isSame(a, b []byte) bool { return cap(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b) }
