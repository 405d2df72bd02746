package shipper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/wal"
)

// errSalvaged says that other segments took the place of the one to ship.
var errSalvaged = errors.New("salvaged")

// ship brings one segment to the storage and removes it here.
func (s *Shipper) ship(ctx context.Context, seg *wal.Segment, c **compressor) error {
	if *c == nil {
		var err error
		if *c, err = newCompressor(s.level); err != nil {
			return err
		}
	}
	confirmed, err := s.log.Unconfirmed()
	if err != nil {
		return err
	}
	compressed := s.opts.Compress()
	o, done, err := s.spool.object(ctx, *c, seg, confirmed)
	compressed()
	var damage *wal.DamageError
	if errors.As(err, &damage) && !errors.Is(err, wal.ErrVersion) || errors.Is(err, fs.ErrNotExist) {
		changed, salvageErr := s.log.Salvage(seg)
		if changed {
			return errSalvaged
		}
		err = errors.Join(err, salvageErr)
	}
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	defer done()
	began := time.Now()
	err = s.store.Put(ctx, o)
	if errors.Is(err, ErrExists) {
		err = s.settle(ctx, o)
	}
	if err != nil {
		return err
	}
	s.uploads.ObserveTime(time.Since(began))
	if err := seg.Remove(); err != nil {
		return err
	}
	if err := s.spool.stock(); err != nil {
		s.opts.Logger.Debug("no room for a reserve yet", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Objects++
	s.stats.RawBytes += uint64(o.RawBytes)
	s.stats.CompressedBytes += uint64(o.Size)
	s.opts.Logger.Debug("shipped", "key", o.Key, "records", o.Records, "bytes", o.Size)
	return nil
}

// settle decides what to do about a key that is taken: an object with the same
// lines is ours, from before a crash or a lost answer; other content stays, and
// ours goes beside it.
func (s *Shipper) settle(ctx context.Context, o *Object) error {
	same, err := s.holds(ctx, o)
	if same || err != nil {
		return err
	}
	taken := o.Key
	o.Key = strings.TrimSuffix(taken, objectSuffix) + "~" + o.SHA256[:8] + objectSuffix
	err = s.store.Put(ctx, o)
	if errors.Is(err, ErrExists) {
		if same, err = s.holds(ctx, o); err == nil && !same {
			err = &StoreError{
				Op: "put", Key: o.Key, Kind: "conflict", Permanent: true, OwnTrouble: true, Err: ErrExists,
				Hint: "both this name and the plain one hold other content: look at them, and move one away",
			}
		}
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.stats.Conflicts++
	s.mu.Unlock()
	s.opts.Logger.Error("the storage holds other content under this segment's name: stored beside it",
		"trouble", "conflict", "taken", taken, "stored", o.Key)
	return nil
}

// holds reports whether the storage has the same lines under the object's key.
func (s *Shipper) holds(ctx context.Context, o *Object) (bool, error) {
	there, err := s.store.Stat(ctx, o.Key)
	if err != nil {
		return false, s.contradiction(o, err)
	}
	if there.SHA256 != "" {
		return there.sameContent(o.Metadata), nil
	}
	body, err := s.store.Open(ctx, o.Key)
	if err != nil {
		return false, s.contradiction(o, err)
	}
	defer body.Close()
	in := &faultKeeper{in: body}
	same, err := sameLines(in, o.Metadata)
	if in.err != nil { // what broke off is not other content
		return false, in.err
	}
	return same, err
}

// contradiction is of a storage that says that a name is taken and that it is
// not: somebody deleted the object meanwhile, or it is a caching proxy.
func (s *Shipper) contradiction(o *Object, err error) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	return &StoreError{Op: "put", Key: o.Key, Kind: "contradiction", OwnTrouble: true, Err: errors.New("the storage says that it has the object, and then that it has not")}
}

// faultKeeper tells a reader that failed from one that holds nonsense.
type faultKeeper struct {
	in  io.Reader
	err error
}

func (k *faultKeeper) Read(p []byte) (int, error) {
	n, err := k.in.Read(p)
	if err != nil && err != io.EOF {
		k.err = err
	}
	return n, err
}

// sameLines reads an object, whatever it is, and reports whether its lines are
// those that want describes.
func sameLines(in io.Reader, want Metadata) (bool, error) {
	dec, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return false, err
	}
	defer dec.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(dec, want.RawBytes+1))
	if err != nil {
		return false, nil // no zstd, or damaged: something else altogether
	}
	return n == want.RawBytes && hex.EncodeToString(sum.Sum(nil)) == want.SHA256, nil
}
