package segment

import (
	"reflect"
	"unsafe"
)

// buffers are the log library's buffers: a copy of the entry in a batch, a copy of all
// entries of the file, and the position of each entry in that copy. The library keeps
// them to read entries back, which this program never does.
//
// The copies would take more time than the rest of a commit, and memory for every byte
// and entry of a segment (make bench measures both). To append, the library needs only
// the current entry. So its buffers are set to the memory of that entry, and the
// library's copying writes each byte onto itself.
//
// The fields are unexported, and the library has no call that empties the buffers of the
// file that it appends to, hence the reflection. The buffers are shared only if each has
// the expected type, the first entry arrives in the file unchanged, and after every entry
// the library has used nothing but the shared memory. Otherwise the library keeps its
// copies, and segments are limited to MaxCopied bytes.
type buffers struct {
	batch, file *[]byte
	positions   reflect.Value // slice of the entries' positions in file
}

// buffersOf finds the buffers of a log. It returns nil if the library's fields are not
// the expected ones.
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
	positions := fieldOf(segment, "epos")
	if batch == nil || file == nil || positions.Kind() != reflect.Slice {
		return nil
	}
	positions = reflect.NewAt(positions.Type(), unsafe.Pointer(positions.UnsafeAddr())).Elem() // the same slice, as a value that can be set
	return &buffers{batch, file, positions}
}

// fieldOf returns the field of that name, or the zero Value if there is none.
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
	return (*[]byte)(unsafe.Pointer(f.UnsafeAddr())) // the pointer keeps the library's struct alive
}

// share sets the library's buffers to buf, so that the library copies in place: the entry
// onto itself, its length into the bytes before it.
func (b *buffers) share(buf []byte) {
	entry, whole := sharedParts(buf)
	*b.batch, *b.file = entry[:0], whole[:0]
	b.positions.SetLen(0)
}

// unshare detaches the library's buffers from buf. It returns false if the library has
// used other memory.
func (b *buffers) unshare(buf []byte) (asExpected bool) {
	entry, whole := sharedParts(buf)
	asExpected = sameMemory(*b.batch, entry) && sameMemory(*b.file, whole) && len(*b.file) == len(whole) && b.positions.Len() == 1
	*b.batch, *b.file = nil, nil
	return asExpected
}

// sharedParts returns the entry in buf, and the entry with its length in front.
func sharedParts(buf []byte) (entry, whole []byte) {
	start := MaxLengthPrefix - uvarintLen(uint64(len(buf)-MaxLengthPrefix))
	return buf[MaxLengthPrefix:len(buf):len(buf)], buf[start:len(buf):len(buf)]
}

// sameMemory reports whether a has exactly the memory of b.
func sameMemory(a, b []byte) bool {
	return cap(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b)
}
