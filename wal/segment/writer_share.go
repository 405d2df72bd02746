package segment

import (
	"reflect"
	"unsafe"
)

// buffers are the log library's buffers, which it keeps to read entries back: a copy of
// the entry in a batch, a copy of all entries of the file, and the place of each entry
// in that. We never read through the library.
//
// The copies would take more time than the rest of a commit, and memory for every byte
// and entry of a segment (make bench measures both). To append, the library needs only
// the present entry. So its buffers are set to that entry's own memory, where its
// appends write each byte onto itself.
//
// The fields are unexported, and no call of the library empties the buffers of the file
// that it appends to, hence the reflection. The buffers are shared only if each has the
// expected type, the first entry arrives in the file as it should, and after every
// entry the library has used nothing but the shared memory. Otherwise it keeps its
// copies, and segments are small.
type buffers struct {
	batch, file *[]byte
	places      reflect.Value // the slice of the entries' places in file
}

// buffersOf finds the buffers of a log. It returns nil if they are not where they are
// expected.
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
	places = reflect.NewAt(places.Type(), unsafe.Pointer(places.UnsafeAddr())).Elem() // the same slice as a value that can be set
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

// share sets the library's buffers so that its copies of the entry in buf are made in
// place: the entry onto itself, its length into the bytes before it.
func (b *buffers) share(buf []byte) {
	entry, whole := sharedParts(buf)
	*b.batch, *b.file = entry[:0], whole[:0]
	b.places.SetLen(0)
}

// unshare takes the memory of buf from the library again. It returns false if the
// library has used other memory.
func (b *buffers) unshare(buf []byte) (asExpected bool) {
	entry, whole := sharedParts(buf)
	asExpected = isSame(*b.batch, entry) && isSame(*b.file, whole) && len(*b.file) == len(whole) && b.places.Len() == 1
	*b.batch, *b.file = nil, nil
	return asExpected
}

// sharedParts returns the entry in buf, and the same with its length in front.
func sharedParts(buf []byte) (entry, whole []byte) {
	start := EntryRoom - uvarintLen(uint64(len(buf)-EntryRoom))
	return buf[EntryRoom:len(buf):len(buf)], buf[start:len(buf):len(buf)]
}

// isSame reports whether a has exactly the memory of b.
func isSame(a, b []byte) bool { return cap(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b) }
