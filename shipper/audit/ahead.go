package audit

import (
	"context"
	"io"
	"iter"
	"sync"

	"collectord/shipper/bucket"
)

// Limits of the read-ahead. Each object holds at most piecesAhead pieces, plus one that is
// being read and one that is being consumed. All objects therefore take at most 16 × 4 ×
// 64 KiB = 4 MiB.
const (
	objectsAhead = 16
	piecesAhead  = 2 // pieces of one object that wait to be consumed
	pieceBytes   = 64 << 10
)

// prefetchedObject is an object whose body a goroutine reads ahead, up to piecesAhead pieces. It is
// an io.ReadCloser for one goroutine.
type prefetchedObject struct {
	key string
	err error // error of the listing; no object follows it

	opened  chan struct{} // closed when stored and openErr are set
	stored  bucket.Stored
	openErr error

	ctx         context.Context
	cancel      context.CancelFunc
	pieces      chan piece
	current     piece  // the piece that is being consumed
	unread      []byte // unread bytes of current
	freeBuffers buffers
}

// piece is a part of a body, and the error that followed it.
type piece struct {
	buf *[pieceBytes]byte
	n   int
	err error
}

// buffers is a free list of piece buffers. A sync.Pool would drop them at each garbage
// collection, and collections are frequent when little memory is available.
type buffers chan *[pieceBytes]byte

func (b buffers) take() *[pieceBytes]byte {
	select {
	case buf := <-b:
		return buf
	default:
		return new([pieceBytes]byte)
	}
}

func (b buffers) put(buf *[pieceBytes]byte) {
	select {
	case b <- buf:
	default:
	}
}

// fetchAhead opens the objects of keys, several at once, and yields them in the order of
// keys. The caller closes each object.
func fetchAhead(ctx context.Context, store bucket.Store, pace *bucket.Pace, keys func(context.Context) iter.Seq2[string, error]) iter.Seq[*prefetchedObject] {
	return func(yield func(*prefetchedObject) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		free := make(buffers, objectsAhead)
		queue := make(chan *prefetchedObject, objectsAhead-2) // one more is being queued, and one is being read
		running.Go(func() {
			defer close(queue)
			for key, err := range keys(ctx) {
				f := &prefetchedObject{key: key, err: err, opened: make(chan struct{}), pieces: make(chan piece, piecesAhead), freeBuffers: free}
				f.ctx, f.cancel = context.WithCancel(ctx)
				if err == nil {
					running.Go(func() { f.fetch(store, pace) })
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

// fetch reads the body until it ends or the object is closed.
func (f *prefetchedObject) fetch(store bucket.Store, pace *bucket.Pace) {
	defer f.cancel()
	defer close(f.pieces)
	var body io.ReadCloser
	ctx := bucket.WithCallOptions(f.ctx, &bucket.CallOptions{Pace: pace})
	body, f.stored, f.openErr = store.Open(ctx, f.key)
	close(f.opened)
	if f.openErr != nil {
		return
	}
	defer body.Close()
	for {
		p := piece{buf: f.freeBuffers.take()}
		for p.n < pieceBytes && p.err == nil {
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

// open waits until the object is open.
func (f *prefetchedObject) open() (io.ReadCloser, bucket.Stored, error) {
	<-f.opened
	return f, f.stored, f.openErr
}

func (f *prefetchedObject) Read(p []byte) (int, error) {
	for len(f.unread) == 0 {
		if f.current.err != nil {
			return 0, f.current.err
		}
		f.releasePiece()
		f.current, f.unread = piece{err: context.Canceled}, nil // the error if the channel is closed
		if next, ok := <-f.pieces; ok {
			f.current, f.unread = next, next.buf[:next.n]
		}
	}
	n := copy(p, f.unread)
	f.unread = f.unread[n:]
	return n, nil
}

// releasePiece releases the buffer of the consumed piece.
func (f *prefetchedObject) releasePiece() {
	if f.current.buf != nil {
		f.freeBuffers.put(f.current.buf)
		f.current.buf, f.unread = nil, nil
	}
}

// Close stops the read-ahead of this object.
func (f *prefetchedObject) Close() error {
	f.cancel()
	f.releasePiece()
	return nil
}
