package shipper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"time"

	"collectord/shipper/bucket"
)

// Archive is a folder of objects of an earlier destination, to be copied to a new one.
// Each object keeps its key and counts as stored after the new destination has proven it.
// An object is removed only after it was read here and found at the new destination.
type Archive struct {
	root  *os.Root
	store bucket.Store // the new destination
}

// OpenArchive opens the folder dir, and puts back what an interrupted Remove has left aside.
// Copy copies its objects to store. The caller calls Close.
func OpenArchive(dir string, store bucket.Store) (*Archive, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("archive folder: %w", err)
	}
	a := &Archive{root, store}
	if err := a.putBack(); err != nil {
		return nil, errors.Join(fmt.Errorf("archive folder: %w", err), root.Close())
	}
	return a, nil
}

// Close closes the folder.
func (a *Archive) Close() error { return a.root.Close() }

// isCopyable reports whether key belongs to an object of usages or to a loss note. Heartbeats are
// not copied, since they describe the present state of a host.
func isCopyable(key string) bool {
	_, isObject := bucket.ParseKey(key)
	_, isNote := bucket.ParseLossKey(key)
	return isObject || isNote
}

// CopyableKeys lists the files of dir whose names are keys of objects or loss notes. It does
// not open them: Copy reports a file with other content.
func CopyableKeys(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := fs.WalkDir(os.DirFS(dir), ".", func(key string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && key != "." {
				return nil // removed since it was listed
			}
			if err = errors.Join(err, ctx.Err()); err == nil && !e.IsDir() && isCopyable(key) && !yield(key, nil) {
				return fs.SkipAll
			}
			return err
		})
		if err != nil {
			yield("", err)
		}
	}
}

// Copy copies an object to the destination and returns it as stored there. The error is
// a *bucket.Damage if the content does not match the key, a *bucket.Error of the
// destination, or an error of the folder.
func (a *Archive) Copy(ctx context.Context, key string) (*bucket.Object, error) {
	if info, err := a.root.Lstat(key); err == nil && !info.Mode().IsRegular() { // opening a pipe would block
		return nil, &bucket.Damage{Err: errors.New("not a regular file")}
	}
	file, err := a.root.Open(key)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if k, isNote := bucket.ParseLossKey(key); isNote {
		return a.copyNote(ctx, file, k)
	}
	o, err := readObject(file, key)
	if err != nil {
		return nil, err
	}
	for range 2 { // another process may store the object between the look and the put
		var stored *bucket.Object
		if stored, err = a.copyObject(ctx, o); !errors.Is(err, bucket.ErrExists) {
			return stored, err
		}
	}
	return nil, conflict(o)
}

// copyObject compares before it puts: an earlier attempt, or the daemon, may have stored the
// object.
func (a *Archive) copyObject(ctx context.Context, o *bucket.Object) (*bucket.Object, error) {
	if err := a.store.Probe(ctx); err != nil {
		return nil, err
	}
	names := []*bucket.Object{o}
	if k, _ := bucket.ParseKey(o.Key); !k.Beside {
		names = append(names, o.Beside())
	}
	for _, candidate := range names {
		found, etag, err := bucket.Compare(ctx, a.store, candidate, bucket.ReadLines)
		switch {
		case errors.Is(err, bucket.ErrNotFound):
			return candidate, a.store.Put(ctx, candidate)
		case err != nil:
			return nil, err
		case found == bucket.SameLines:
			return candidate, nil
		case found == bucket.DamagedCopy:
			replacing := *candidate
			replacing.Replace, replacing.Replaces = true, etag
			if err := a.store.Put(ctx, &replacing); !errors.Is(err, bucket.ErrNotReplaced) {
				return candidate, err
			}
		}
	}
	return nil, conflict(o)
}

func (a *Archive) copyNote(ctx context.Context, file io.Reader, k bucket.Key) (*bucket.Object, error) {
	_, content, err := bucket.DecodeLossNote(file, k)
	if err != nil {
		return nil, err
	}
	o := bucket.NewObject(k.LossKey(), content)
	sum := sha256.Sum256(content)
	o.Metadata = keyMetadata(k)
	o.RawBytes, o.SHA256 = o.Size, hex.EncodeToString(sum[:])
	if err := a.store.Put(ctx, o); !errors.Is(err, bucket.ErrExists) {
		return o, err
	}
	_, err = bucket.ReadLossNote(ctx, a.store, k)
	if damage := (*bucket.Damage)(nil); errors.As(err, &damage) {
		return nil, conflict(o)
	}
	return o, err
}

// keyMetadata returns the metadata that the key contains.
func keyMetadata(k bucket.Key) bucket.Metadata {
	return bucket.Metadata{
		Format: bucket.Format, Node: k.Node, LogID: bucket.HexID(k.LogID), Run: bucket.HexID(k.Run), FirstSeq: k.FirstSeq, LastSeq: k.LastSeq,
	}
}

// isStored reports whether the destination still has the object that it confirmed.
func (a *Archive) isStored(ctx context.Context, stored *bucket.Object) (bool, error) {
	var found bucket.Comparison
	var err error
	if k, isNote := bucket.ParseLossKey(stored.Key); isNote {
		_, err = bucket.ReadLossNote(ctx, a.store, k)
		found = bucket.SameLines
	} else {
		found, _, err = bucket.Compare(ctx, a.store, stored, bucket.MetadataOnly)
	}
	if errors.Is(err, bucket.ErrNotFound) {
		return false, nil
	}
	return found == bucket.SameLines, err
}

// asideSuffix ends the name of a file that is about to be removed.
const asideSuffix = ".aside"

// ErrIsDestination means that the folder is the destination itself, such as the folder of a
// server for S3 requests.
var ErrIsDestination = errors.New("the destination has its objects in this folder")

// Remove removes an object that the destination has confirmed from the folder, and each
// parent directory that is now empty. It first takes the file out of its place, and asks
// whether the destination still has the object. If not, it puts the file back.
func (a *Archive) Remove(ctx context.Context, key string, stored *bucket.Object) error {
	if err := a.root.Rename(key, key+asideSuffix); err != nil {
		return err
	}
	still, err := a.isStored(ctx, stored)
	if err != nil || !still {
		if back := a.root.Rename(key+asideSuffix, key); back != nil || err != nil {
			return errors.Join(err, back)
		}
		if still, err = a.isStored(ctx, stored); err != nil {
			return err
		}
		if still {
			return ErrIsDestination
		}
		return &bucket.Error{Op: "stat", Key: stored.Key, Kind: "vanished", ThisObjectOnly: true, Err: errors.New("the storage had confirmed it, but no longer has it"), Hint: "run this again"}
	}
	if err := a.root.Remove(key + asideSuffix); err != nil {
		return err
	}
	dir := path.Dir(key)
	for dir != "." && a.root.Remove(dir) == nil { // Remove fails on a directory that is not empty
		dir = path.Dir(dir)
	}
	return nil
}

// putBack puts back the files that an interrupted Remove has left aside.
func (a *Archive) putBack() error {
	return fs.WalkDir(a.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		key, isAside := strings.CutSuffix(name, asideSuffix)
		if err != nil || !isAside || e.IsDir() || !isCopyable(key) {
			return err
		}
		if _, err := a.root.Lstat(key); errors.Is(err, fs.ErrNotExist) {
			return a.root.Rename(name, key)
		}
		return nil
	})
}

// readObject reads an object of a folder, which stores no metadata beside the content.
func readObject(file *os.File, key string) (*bucket.Object, error) {
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	size, err := io.Copy(crc, file)
	if err != nil {
		return nil, err
	}
	k, _ := bucket.ParseKey(key)
	o := &bucket.Object{Key: key, Body: file, Size: size, CRC32C: crc.Sum32(), Metadata: keyMetadata(k)}
	o.Records = k.LastSeq - k.FirstSeq + 1
	r, err := bucket.NewReader(io.NewSectionReader(file, 0, size), size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	r.LimitRecords(o.Records)
	lines, records := sha256.New(), 0
	for {
		block, err := r.Lines()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		lines.Write(block)
		records += bytes.Count(block, []byte{'\n'})
		o.RawBytes += int64(len(block))
	}
	if uint64(records) != o.Records {
		return nil, &bucket.Damage{Records: uint64(records), Err: fmt.Errorf("its name promises %d", o.Records)}
	}
	o.SHA256 = hex.EncodeToString(lines.Sum(nil))
	return o, nil
}

// WithArchiveOptions returns a context for the calls of an Archive. bandwidth is in bytes a
// second (0: no limit); stall is how long the storage may make no progress.
func WithArchiveOptions(ctx context.Context, bandwidth int64, stall time.Duration) context.Context {
	o := &bucket.CallOptions{Bandwidth: new(bucket.Bandwidth), StallTimeout: stall}
	o.Bandwidth.Set(bandwidth)
	return bucket.WithCallOptions(ctx, o)
}
