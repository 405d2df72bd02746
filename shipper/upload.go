package shipper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"collectord/shipper/bucket"
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
	var refused *bucket.Error
	if errors.As(err, &refused) && refused.Kind == bucket.TooLarge {
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
func (s *Shipper) upload(ctx context.Context, seg *wal.Segment, c *compressor) (*bucket.Object, error) {
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
	if errors.Is(err, bucket.ErrExists) {
		err = s.resolveExisting(ctx, o)
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

// resolveExisting decides what to do about a key that is taken: an object with the
// same lines is ours, from before a crash or a lost answer; a damaged copy of it is
// replaced; anything else stays, and ours goes beside it.
func (s *Shipper) resolveExisting(ctx context.Context, o *bucket.Object) error {
	found, err := bucket.Compare(ctx, s.store, o)
	if err != nil || found == bucket.SameLines {
		return contradiction(o.Key, err)
	}
	if found == bucket.DamagedCopy {
		return s.replace(ctx, o)
	}
	beside := o.Beside()
	err = s.store.Put(ctx, beside)
	if errors.Is(err, bucket.ErrExists) {
		var other bucket.Comparison
		other, err = bucket.Compare(ctx, s.store, beside)
		switch {
		case err != nil:
			err = contradiction(beside.Key, err)
		case other == bucket.DamagedCopy:
			err = s.replace(ctx, beside)
		case other != bucket.SameLines:
			err = conflict(beside)
		}
	}
	if err != nil {
		return err
	}
	if found == bucket.Undecodable {
		s.count(damagedCopy)
		s.opts.Logger.Error("the storage holds a damaged object under this segment's name, and nothing that says what it was: stored beside it (look at it, and delete it)",
			"trouble", "damaged copy", "taken", o.Key, "stored", beside.Key)
		return nil
	}
	s.mu.Lock()
	s.stats.Conflicts++
	s.mu.Unlock()
	s.opts.Logger.Error("the storage holds other content under this segment's name: stored beside it",
		"trouble", "conflict", "taken", o.Key, "stored", beside.Key)
	return nil
}

// conflict is of an object that has no name left.
func conflict(beside *bucket.Object) error {
	return &bucket.Error{
		Op: "put", Key: beside.Key, Kind: "conflict", Permanent: true, OwnTrouble: true, Err: bucket.ErrExists,
		Hint: "both this name and the plain one hold other content: look at them, and move one away",
	}
}

// count counts a failure of a kind that is always there.
func (s *Shipper) count(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Failures[kind]++
}

// damagedCopy is the kind of failure of a storage that holds a damaged copy.
const damagedCopy = "damaged_copy"

// replace puts the object in the place of a damaged copy of it. That can't do
// harm: the metadata of what is replaced says that it should be this.
func (s *Shipper) replace(ctx context.Context, o *bucket.Object) error {
	s.count(damagedCopy)
	o.Replace = true
	if err := s.store.Put(ctx, o); err != nil {
		return err
	}
	s.opts.Logger.Warn("the storage held a damaged copy of a segment: replaced it", "trouble", "damaged copy", "key", o.Key)
	return nil
}

// contradiction is of a storage that says that a name is taken and that it is
// not: somebody deleted the object meanwhile, or it is a caching proxy. Another error
// stays as it is.
func contradiction(key string, err error) error {
	if !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	return &bucket.Error{Op: "put", Key: key, Kind: "contradiction", OwnTrouble: true, Err: errors.New("the storage says that it has the object, and then that it has not")}
}
