package audit

import (
	"context"
	"io"
	"iter"
	"sync"

	"collectord/shipper/bucket"
)

// Bounds of what is fetched ahead. Of an object at most pieces and the one that is
// being read or taken are held, so that all take at most 16 × 4 × 64 KiB = 4 MiB.
const (
	objectsAhead = 16
	piecesAhead  = 2 // of an object, that wait to be taken
	pieceSize    = 64 << 10
)

// fetched is an object on its way: a goroutine reads the beginning of its body, and
// the rest as it is taken. It is an io.ReadCloser for one goroutine.
type fetched struct {
	key string
	err error // of the listing, after which nothing follows

	opened  chan struct{} // closed when what follows is there
	stored  bucket.Stored
	openErr error

	ctx    context.Context
	cancel context.CancelFunc
	pieces chan piece
	now    piece  // that is being taken
	rest   []byte // of it
	free   buffers
}

// piece is a part of a body, with the error that came after it.
type piece struct {
	buf *[pieceSize]byte
	n   int
	err error
}

// buffers are those of pieces that are taken. A sync.Pool would lose them to each garbage
// collection, of which there are many in little memory.
type buffers chan *[pieceSize]byte

func (b buffers) take() *[pieceSize]byte {
	select {
	case buf := <-b:
		return buf
	default:
		return new([pieceSize]byte)
	}
}

func (b buffers) put(buf *[pieceSize]byte) {
	select {
	case b <- buf:
	default:
	}
}

// fetchAhead opens the objects of keys, several at once, and yields them in order. The
// caller closes each.
func fetchAhead(ctx context.Context, store bucket.Store, keys func(context.Context) iter.Seq2[string, error]) iter.Seq[*fetched] {
	return func(yield func(*fetched) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		free := make(buffers, objectsAhead)
		queue := make(chan *fetched, objectsAhead-2) // one is being queued, and one is being read
		running.Go(func() {
			defer close(queue)
			for key, err := range keys(ctx) {
				f := &fetched{key: key, err: err, opened: make(chan struct{}), pieces: make(chan piece, piecesAhead), free: free}
				f.ctx, f.cancel = context.WithCancel(ctx)
				if err == nil {
					running.Go(func() { f.fetch(store) })
				}
				select {
				case queue <- f:
				case <-ctx.Done():
					return
				}
			}
		})
		for f := range queue {
			if !yield(f) {
				return
			}
		}
	}
}

// fetch reads the body until it ends or nobody wants it any more.
func (f *fetched) fetch(store bucket.Store) {
	defer f.cancel()
	defer close(f.pieces)
	var body io.ReadCloser
	ctx := bucket.WithCallOptions(f.ctx, &bucket.CallOptions{Least: leastOfObject})
	body, f.stored, f.openErr = store.Open(ctx, f.key)
	close(f.opened)
	if f.openErr != nil {
		return
	}
	defer body.Close()
	for {
		p := piece{buf: f.free.take()}
		for p.n < pieceSize && p.err == nil {
			var n int
			n, p.err = body.Read(p.buf[p.n:])
			p.n += n
		}
		select {
		case f.pieces <- p:
		case <-f.ctx.Done():
			return
		}
		if p.err != nil {
			return
		}
	}
}

// open waits until the object is opened.
func (f *fetched) open() (io.ReadCloser, bucket.Stored, error) {
	<-f.opened
	return f, f.stored, f.openErr
}

func (f *fetched) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.now.err != nil {
			return 0, f.now.err
		}
		f.taken()
		f.now, f.rest = piece{err: context.Canceled}, nil // unless there is one
		if next, ok := <-f.pieces; ok {
			f.now, f.rest = next, next.buf[:next.n]
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// taken returns the buffer of the piece that was taken.
func (f *fetched) taken() {
	if f.now.buf != nil {
		f.free.put(f.now.buf)
		f.now.buf, f.rest = nil, nil
	}
}

// Close ends the reading.
func (f *fetched) Close() error {
	f.cancel()
	f.taken()
	return nil
}
