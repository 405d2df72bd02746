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

// Other segments took the place of the one to ship.
var (
	errSalvaged = errors.New("salvaged")
	errSplit    = errors.New("split")
)

// ship brings one segment to the storage and removes it here.
func (s *Shipper) ship(ctx context.Context, seg *wal.Segment, c **compressor) error {
	if *c == nil {
		var err error
		if *c, err = newCompressor(s.level); err != nil {
			return err
		}
	}
	if err := s.spool.stock(); err != nil { // before others take the room
		s.opts.Logger.Debug("no room for a reserve yet", "error", err)
	}
	o, err := s.upload(ctx, seg, *c)
	var refused *StoreError
	if errors.As(err, &refused) && refused.Kind == tooLarge {
		err = s.shipInPieces(ctx, seg, o, refused)
	}
	if err != nil {
		return err
	}
	if err := seg.Remove(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Objects++
	s.stats.RawBytes += uint64(o.RawBytes)
	s.stats.CompressedBytes += uint64(o.Size)
	s.opts.Logger.Debug("shipped", "key", o.Key, "records", o.Records, "bytes", o.Size)
	return nil
}

// upload compresses a segment and has the storage take the object. Its body is gone
// when upload returns.
func (s *Shipper) upload(ctx context.Context, seg *wal.Segment, c *compressor) (*Object, error) {
	confirmed, err := s.log.Unconfirmed()
	if err != nil {
		return nil, err
	}
	compressed := s.opts.Compress()
	o, done, err := s.spool.object(ctx, c, seg, confirmed)
	compressed()
	if err != nil {
		return nil, fmt.Errorf("compress: %w", s.salvageIfDamaged(seg, err))
	}
	defer done()
	began := time.Now()
	err = s.store.Put(ctx, o)
	if errors.Is(err, ErrExists) {
		err = s.settle(ctx, o)
	}
	if err == nil {
		s.uploads.ObserveTime(time.Since(began))
	}
	return o, err
}

// salvageIfDamaged salvages a segment if err says that it is damaged. It returns
// errSalvaged where that changed something, otherwise err.
func (s *Shipper) salvageIfDamaged(seg *wal.Segment, err error) error {
	var damage *wal.DamageError
	if errors.Is(err, wal.ErrVersion) || !errors.As(err, &damage) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	changed, salvageErr := s.log.Salvage(seg)
	if changed {
		return errSalvaged
	}
	return errors.Join(err, salvageErr)
}

// settle decides what to do about a key that is taken: an object with the same
// lines is ours, from before a crash or a lost answer; other content stays, and
// ours goes beside it.
func (s *Shipper) settle(ctx context.Context, o *Object) error {
	found, err := s.compare(ctx, o)
	if err != nil || found == sameContent {
		return s.contradiction(o, err)
	}
	if found == damagedCopy {
		return s.replace(ctx, o)
	}
	beside := o.beside()
	err = s.store.Put(ctx, beside)
	if errors.Is(err, ErrExists) {
		found, err = s.compare(ctx, beside)
		switch {
		case err != nil:
			err = s.contradiction(beside, err)
		case found == damagedCopy:
			err = s.replace(ctx, beside)
		case found == otherContent:
			err = conflict(beside)
		}
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.stats.Conflicts++
	s.mu.Unlock()
	s.opts.Logger.Error("the storage holds other content under this segment's name: stored beside it",
		"trouble", "conflict", "taken", o.Key, "stored", beside.Key)
	return nil
}

// beside is the object under the name that it gets where its own holds other content.
func (o *Object) beside() *Object {
	other := *o
	other.Key = strings.TrimSuffix(o.Key, objectSuffix) + "~" + o.SHA256[:8] + objectSuffix
	return &other
}

// conflict is of an object that has no name left.
func conflict(beside *Object) error {
	return &StoreError{
		Op: "put", Key: beside.Key, Kind: "conflict", Permanent: true, OwnTrouble: true, Err: ErrExists,
		Hint: "both this name and the plain one hold other content: look at them, and move one away",
	}
}

// replace puts the object in the place of a damaged copy of it. That can't do
// harm: what is replaced says itself that it should be this.
func (s *Shipper) replace(ctx context.Context, o *Object) error {
	s.mu.Lock()
	s.stats.Failures["damaged_copy"]++
	s.mu.Unlock()
	o.Replace = true
	if err := s.store.Put(ctx, o); err != nil {
		return err
	}
	s.opts.Logger.Warn("the storage held a damaged copy of a segment: replaced it", "trouble", "damaged copy", "key", o.Key)
	return nil
}

// What there can be under the key of an object.
type comparison int

const (
	otherContent comparison = iota
	sameContent
	damagedCopy // it says that it has the same lines, and does not
)

// compare looks whether the storage has the same lines under the object's key.
// Metadata and size are believed, unless a checksum disagrees or they are doubtful:
// what a proof refused must not be accepted here by the next attempt. ErrNotFound means
// that there is nothing.
func (s *Shipper) compare(ctx context.Context, o *Object) (comparison, error) {
	there, err := s.store.Stat(ctx, o.Key)
	if err != nil {
		return 0, err
	}
	same := there.sameContent(o.Metadata)
	switch {
	case there.SHA256 != "" && !same:
		return otherContent, nil
	case same && there.Size == o.Size && (there.CRC32C == "" && !there.Doubtful || there.CRC32C == o.checksum()):
		return sameContent, nil
	}
	// Another version compresses otherwise, and the metadata in the object changes
	// from attempt to attempt: only the lines tell.
	body, err := s.store.Open(ctx, o.Key)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	in := &faultKeeper{in: body}
	equal, err := sameLines(in, o.Metadata)
	switch {
	case in.err != nil: // what broke off is not other content
		return 0, in.err
	case err != nil:
		return 0, err
	case equal:
		return sameContent, nil
	case in.ended && in.read < there.Size:
		return 0, &StoreError{Op: "open", Key: o.Key, Kind: "network", Err: fmt.Errorf("%d of %d bytes came: %w", in.read, there.Size, io.ErrUnexpectedEOF)}
	case same:
		return damagedCopy, nil
	}
	return otherContent, nil
}

// contradiction is of a storage that says that a name is taken and that it is
// not: somebody deleted the object meanwhile, or it is a caching proxy. Another error
// stays as it is.
func (s *Shipper) contradiction(o *Object, err error) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	return &StoreError{Op: "put", Key: o.Key, Kind: "contradiction", OwnTrouble: true, Err: errors.New("the storage says that it has the object, and then that it has not")}
}

// faultKeeper tells a reader that failed from one that holds nonsense.
type faultKeeper struct {
	in    io.Reader
	err   error
	read  int64
	ended bool
}

func (k *faultKeeper) Read(p []byte) (int, error) {
	n, err := k.in.Read(p)
	k.read += int64(n)
	if err == io.EOF {
		k.ended = true
	} else if err != nil {
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
