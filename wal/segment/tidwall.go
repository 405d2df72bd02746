package segment

import (
	"math"
	"reflect"
	"unsafe"

	tidwall "github.com/tidwall/wal"
)

// openLog makes the file of a segment with the underlying log. lent are its
// buffers, or nil.
func openLog(dir string) (log *tidwall.Log, lent *buffers, err error) {
	log, err = tidwall.Open(dir, &tidwall.Options{
		NoSync: true,
		// Its own segments would be files that no name of ours tells of.
		SegmentSize: math.MaxInt,
		DirPerms:    0o750,
		FilePerms:   0o640,
	})
	if err != nil {
		return nil, nil, err
	}
	return log, buffersOf(log), nil
}

// buffers are the two copies that the underlying log makes of an entry: one in a
// batch, and one behind all that it has written, as it stands in the file, so
// that it could be read back.
//
// Nothing of ours reads them. To let the second grow to the size of a segment
// costs more than all else in a commit, and most of that while appenders wait
// (measured: 1.2 million records a second with it, 3.6 million without); and a
// frame of 20 MiB would be in memory three times. Of a file that it appends to,
// the underlying log needs only what it is about to write. So it is lent the
// frame itself, in which it finds its copies made.
type buffers struct{ batch, file *[]byte }

// buffersOf finds them, or returns nil if they are not where they are looked for.
func buffersOf(log *tidwall.Log) *buffers {
	l := reflect.ValueOf(log).Elem()
	segments := l.FieldByName("segments")
	if segments.Kind() != reflect.Slice || segments.Len() != 1 || segments.Index(0).Kind() != reflect.Pointer {
		return nil
	}
	file, batch := bytesIn(segments.Index(0).Elem(), "ebuf"), bytesIn(l.FieldByName("wbatch"), "datas")
	if file == nil || batch == nil {
		return nil
	}
	return &buffers{batch, file}
}

func bytesIn(v reflect.Value, field string) *[]byte {
	if v.Kind() != reflect.Struct {
		return nil
	}
	f := v.FieldByName(field)
	if !f.IsValid() || f.Type() != reflect.TypeFor[[]byte]() {
		return nil
	}
	return (*[]byte)(unsafe.Pointer(f.UnsafeAddr())) // the pointer keeps alive what it points into
}

// lend has the copies of the entry behind buf's EntryRoom made in place: it is
// appended to itself, and its length to what is before it.
func (b *buffers) lend(buf []byte) {
	entry := buf[EntryRoom:len(buf):len(buf)]
	*b.batch = entry[:0]
	start := EntryRoom - uvarintLen(uint64(len(entry)))
	*b.file = buf[start:start:len(buf)]
}

// reclaim leaves nothing with the underlying log.
func (b *buffers) reclaim() { *b.batch, *b.file = nil, nil }
