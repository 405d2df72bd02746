package segment

import (
	"reflect"
	"unsafe"
)

// buffers are what the underlying log keeps of the entries it writes: a copy in a
// batch, a copy behind all that it has written, as it stands in the file, and where
// each entry is in that. They are there for reading back, which nothing of ours does.
//
// They would cost more than all else in a commit, and memory for every byte and
// every entry of a segment; make bench measures both. To append, the log needs only
// the entry in hand. So it is lent that entry's own memory, in which it finds its
// copies made.
//
// There is no way to this but its unexported fields. It is taken only where each of
// them has the expected type, the first entry of each file arrives as it should,
// and the log was seen, after every entry, to have used nothing but what it was
// lent. Else it keeps its copies, and segments are small.
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

// lend has the copies of the entry behind buf's EntryRoom made in place: it is
// appended to itself, and its length to what is before it.
func (b *buffers) lend(buf []byte) {
	entry, whole := lentParts(buf)
	*b.batch, *b.file = entry[:0], whole[:0]
	b.places.SetLen(0)
}

// reclaim leaves nothing with the underlying log, and reports whether it holds all
// that was lent and nothing else.
func (b *buffers) reclaim(buf []byte) (asExpected bool) {
	entry, whole := lentParts(buf)
	asExpected = isSame(*b.batch, entry) && isSame(*b.file, whole) && len(*b.file) == len(whole) && b.places.Len() == 1
	*b.batch, *b.file = nil, nil
	return asExpected
}

// lentParts are the entry in buf, and the same with its length in front.
func lentParts(buf []byte) (entry, whole []byte) {
	start := EntryRoom - uvarintLen(uint64(len(buf)-EntryRoom))
	return buf[EntryRoom:len(buf):len(buf)], buf[start:len(buf):len(buf)]
}

// isSame reports whether a and b have the same memory, which is all of b.
func isSame(a, b []byte) bool { return cap(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b) }
