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

// Errors that mean that other segments have replaced the one to ship.
var (
	errSalvaged = errors.New("salvaged")
	errSplit    = errors.New("split")
)

// ship uploads one segment. Then it keeps the segment in the log for a while, or removes
// it.
func (s *Shipper) ship(ctx context.Context, seg *wal.Segment, compress turn) error {
	if err := s.spool.allocateReserve(); err != nil { // before other data fills the disk
		s.opts.Logger.Debug("no room for a reserve yet", "error", err)
	}
	o, err := s.upload(ctx, seg, compress)
	var refused *bucket.Error
	if errors.As(err, &refused) && refused.Kind == bucket.TooLarge {
		o, err = s.shipInPieces(ctx, seg, o, refused)
	}
	if err != nil {
		return err
	}
	if s.keepsSegments() {
		s.keeper.keep(seg, o)
	} else if err := seg.Remove(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Objects++
	if seg.Relisted() > 0 {
		s.stats.Reshipped++
	}
	s.stats.RawBytes += uint64(o.RawBytes)
	s.stats.CompressedBytes += uint64(o.Size)
	s.opts.Logger.Debug("shipped", "key", o.Key, "records", o.Records, "bytes", o.Size)
	return nil
}

// upload compresses a segment, stores the object and returns it as stored. The object's
// body can't be used after upload returns.
func (s *Shipper) upload(ctx context.Context, seg *wal.Segment, compress turn) (*bucket.Object, error) {
	o, done, upload, err := s.compress(ctx, seg, compress)
	if err != nil {
		return nil, fmt.Errorf("compress: %w", s.salvageIfDamaged(seg, err))
	}
	defer done()
	if err := s.uploading.enter(ctx, upload); err != nil {
		return nil, err
	}
	defer s.uploading.leave()
	if o.ConfirmedBelow, err = s.log.Unconfirmed(); err != nil {
		return nil, err
	}
	began := time.Now()
	stored, err := s.putOrSplit(ctx, seg, o)
	if err != nil {
		return o, err
	}
	s.uploads.ObserveTime(time.Since(began))
	return stored, nil
}

// compress makes the object of a segment, as spool.compress does, and joins the queue of
// uploads before the next segment is compressed.
func (s *Shipper) compress(ctx context.Context, seg *wal.Segment, compress turn) (o *bucket.Object, done func(), upload turn, err error) {
	if err := s.compressing.enter(ctx, compress); err != nil {
		return nil, nil, nil, err
	}
	defer s.compressing.leave()
	var c *compressor
	select {
	case c = <-s.compressors:
	default:
		if c, err = newCompressor(s.level); err != nil {
			return nil, nil, nil, err
		}
	}
	defer func() { s.compressors <- c }()
	defer s.opts.OnCompress()()
	if o, done, err = s.spool.compress(ctx, c, seg); err == nil {
		upload = s.uploading.join()
	}
	return o, done, upload, err
}

// put stores an object. It compares before it puts if an earlier process may have shipped
// the segment, or if the storage seemed to have lost it.
func (s *Shipper) put(ctx context.Context, seg *wal.Segment, o *bucket.Object) (stored *bucket.Object, err error) {
	if seg.Relisted() > 0 || seg.FoundAtStart() {
		if err := s.store.Probe(ctx); err != nil { // an object in a storage that does not encrypt must not count as shipped
			return o, err
		}
		stored, err := s.resolveExisting(ctx, seg, o)
		if errors.Is(err, bucket.ErrNotFound) { // the object that had this key may be gone, while ours is stored beside it
			found, _, besideErr := s.compareExisting(ctx, seg, o.Beside())
			if besideErr == nil && found == bucket.SameLines {
				return o.Beside(), nil
			}
			if besideErr != nil && !errors.Is(besideErr, bucket.ErrNotFound) && !isForbidden(besideErr) {
				return o, besideErr
			}
		}
		if !errors.Is(err, bucket.ErrNotFound) && !isForbidden(err) {
			return stored, err
		}
	}
	err = s.store.Put(ctx, o)
	s.sizes.record(o.Size, err)
	if !errors.Is(err, bucket.ErrExists) {
		o.Sent = err == nil
		return o, err
	}
	stored, err = s.resolveExisting(ctx, seg, o)
	return stored, contradiction(o.Key, err)
}

// keepsSegments reports whether a segment stays in the log until a look has checked its object.
func (s *Shipper) keepsSegments() bool {
	return s.currentLimits().Keep > 0 && !s.keeper.looksForbidden()
}

// compareExisting compares an object with the one that the storage has under the same key. The
// put of the stored one was not answered: the storage may have its name, size and metadata but
// not its bytes. So compareExisting reads the bytes. It does not read an object of an earlier
// process if a look will read it later, since there may be many and other segments wait. If
// reading is forbidden, for example in an archive class, matching size and metadata are accepted.
func (s *Shipper) compareExisting(ctx context.Context, seg *wal.Segment, o *bucket.Object) (found bucket.Comparison, etag string, err error) {
	lost := seg.Relisted() > 0
	read := lost || !s.keepsSegments() || !seg.FoundAtStart()
	found, etag, err = s.compare(ctx, o, read)
	if lost || !read || !isForbidden(err) {
		return found, etag, err
	}
	found, etag, err = s.compare(ctx, o, bucket.MetadataOnly)
	if err == nil && found == bucket.SameLines {
		s.opts.Logger.Warn("can't read back an object whose put was not answered: its size and metadata are trusted (grant s3:GetObject on this bucket and prefix; docs/storages.md, Permissions)",
			"trouble", troubleLook, "destination", s.store.String(), "key", o.Key)
	}
	return found, etag, err
}

// isForbidden reports whether the storage denied access.
func isForbidden(err error) bool {
	var refused *bucket.Error
	return errors.As(err, &refused) && refused.Forbidden
}

// salvageIfDamaged salvages a segment if err means that it is damaged or missing. It returns
// errSalvaged if the salvage changed something, otherwise err.
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

// resolveExisting handles a key that is taken. An object with the same lines is ours,
// from before a crash or a lost answer. A damaged copy of ours is replaced. Any other
// object stays, and ours is stored beside it. It returns the object as stored;
// ErrNotFound means that the key is free.
func (s *Shipper) resolveExisting(ctx context.Context, seg *wal.Segment, o *bucket.Object) (stored *bucket.Object, err error) {
	found, etag, err := s.compareExisting(ctx, seg, o)
	if err != nil || found == bucket.SameLines {
		return o, err
	}
	damaged := found == bucket.DamagedCopy || found == bucket.Undecodable
	if damaged {
		s.count(kindDamaged)
	}
	if found == bucket.DamagedCopy {
		if err := s.replace(ctx, o, etag); !errors.Is(err, bucket.ErrNotReplaced) {
			return o, err
		}
	}
	beside := o.Beside()
	if err := s.putBeside(ctx, seg, beside); err != nil {
		return o, err
	}
	if damaged {
		s.opts.Logger.Error("the storage holds a damaged copy of a segment, and does not replace it: the segment was stored beside it (look at the copy, and delete it)",
			"trouble", kindDamaged, "taken", o.Key, "stored", beside.Key)
		return beside, nil
	}
	s.mu.Lock()
	s.stats.Conflicts++
	s.mu.Unlock()
	s.opts.Logger.Error("the storage holds other content under this segment's name: the segment was stored beside it",
		"trouble", "conflict", "taken", o.Key, "stored", beside.Key)
	return beside, nil
}

// putBeside stores an object under the key that it gets if its own is taken.
func (s *Shipper) putBeside(ctx context.Context, seg *wal.Segment, beside *bucket.Object) error {
	err := s.store.Put(ctx, beside)
	if !errors.Is(err, bucket.ErrExists) {
		return err
	}
	found, etag, err := s.compareExisting(ctx, seg, beside)
	switch {
	case err != nil:
		return contradiction(beside.Key, err)
	case found == bucket.SameLines:
		return nil
	case found == bucket.DamagedCopy:
		s.count(kindDamaged)
		err := s.replace(ctx, beside, etag)
		if errors.Is(err, bucket.ErrNotReplaced) { // the key alone identifies the lines
			err = s.replace(ctx, beside, bucket.AnyVersion)
		}
		return err
	}
	return conflict(beside)
}

// conflict returns the error of an object whose keys are both taken by other content.
func conflict(beside *bucket.Object) error {
	return &bucket.Error{
		Op: "put", Key: beside.Key, Kind: "conflict", Permanent: true, ThisObjectOnly: true, Err: bucket.ErrExists,
		Hint: "both names of this segment belong to objects with other content: look at the two objects, and move one away",
	}
}

// kindDamaged is the kind of failure of a storage that has a damaged copy.
const kindDamaged = "damaged"

// replace replaces a damaged copy of the object and nothing else: etag identifies a copy
// whose metadata or key claims the same lines.
func (s *Shipper) replace(ctx context.Context, o *bucket.Object, etag string) error {
	replacing := *o
	replacing.Replace, replacing.Replaces = true, etag
	if err := s.store.Put(ctx, &replacing); err != nil {
		return contradiction(o.Key, err)
	}
	s.opts.Logger.Warn("the storage held a damaged copy of a segment: replaced it", "trouble", kindDamaged, "key", o.Key)
	return nil
}

// contradiction converts ErrNotFound after ErrExists to an *Error: the object was deleted
// meanwhile, or a caching proxy answered. Another error stays as it is.
func contradiction(key string, err error) error {
	if !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	return &bucket.Error{
		Op: "put", Key: key, Kind: "contradiction", ThisObjectOnly: true, Err: errors.New("the storage reported first that it has the object, and then that it does not"),
		Hint: "look for a program that deletes objects, or for a proxy that caches answers",
	}
}
