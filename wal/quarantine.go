package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// quarantineTail copies the end of a file to the quarantine, without trailing zeros,
// and returns how many bytes it copied. It copies nothing if the end is only zeros, for example
// after a power loss.
func (b *base) quarantineTail(name, path string, tail segment.ByteRange) (kept int64, err error) {
	in, err := b.disk.OpenRegular(path)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	kept, err = sizeWithoutZeros(in, tail)
	if kept == 0 || err != nil {
		return 0, err
	}
	base := fmt.Sprintf("%s-%016x-at-%d", name, b.runID, tail.From)
	tail.To = tail.From + kept
	return kept, b.quarantineBytes(base, name, in, tail, errors.New("no whole frame of this segment"))
}

// quarantineBytes copies a byte range of a segment to the quarantine and writes a
// report next to it. Zeros become holes.
func (b *base) quarantineBytes(base, segmentName string, in io.ReaderAt, d segment.ByteRange, reason error) error {
	dir := filepath.Join(b.dir, quarantineName)
	if err := b.disk.MkdirDurably(dir); err != nil {
		return err
	}
	base, err := b.writeQuarantined(filepath.Join(dir, base), in, d)
	if err != nil {
		return err
	}
	report := fmt.Appendf(nil, "segment: %s\noffset: %d\nbytes: %d\nreason: %v\n", segmentName, d.From, d.To-d.From, reason)
	ranges := 0
	err = eachData(in, d, func(at int64, b []byte) error {
		if ranges++; ranges > maxRanges || int64(len(b)) == d.To-d.From {
			return nil
		}
		report = fmt.Appendf(report, "not zero: bytes %d to %d\n", at, at+int64(len(b))-1)
		return nil
	})
	if err != nil {
		return err
	}
	return b.disk.WriteFileDurably(base+".txt", report)
}

// maxRanges is the max number of byte ranges that a report lists.
const maxRanges = 100

// writeQuarantined writes base.bin and returns base. It never replaces a file: it uses
// an existing file with the same content, and otherwise adds a number to the new file's
// name.
func (b *base) writeQuarantined(base string, in io.ReaderAt, d segment.ByteRange) (string, error) {
	path := base
	for n := 2; ; n++ {
		if _, err := b.disk.Stat(path + ".bin"); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		if sameContent(b.disk, path+".bin", in, d) { // a file with this name is durable
			return path, nil
		}
		path = fmt.Sprintf("%s-%d", base, n)
	}
	return path, b.disk.WriteDurably(path+".bin", func(out vfs.File) error {
		err := eachData(in, d, func(at int64, b []byte) error {
			_, err := out.WriteAt(b, at-d.From)
			return err
		})
		if err != nil {
			return err
		}
		return out.Truncate(d.To - d.From)
	})
}

// sameContent reports whether the file at path has exactly the bytes d of in.
func sameContent(disk vfs.Disk, path string, in io.ReaderAt, d segment.ByteRange) bool {
	file, err := disk.OpenRegular(path)
	if err != nil {
		return false
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() != d.To-d.From {
		return false
	}
	errDiffer := errors.New("they differ")
	buf := make([]byte, chunkSize)
	compare := func(a io.ReaderAt, from segment.ByteRange, b io.ReaderAt, to int64) error {
		return eachData(a, from, func(at int64, content []byte) error {
			other := buf[:len(content)]
			if _, err := b.ReadAt(other, at-from.From+to); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(content, other) {
				return errDiffer
			}
			return nil
		})
	}
	return compare(in, d, file, 0) == nil && compare(file, segment.ByteRange{To: d.To - d.From}, in, d.From) == nil
}

const chunkSize = 64 << 10

// eachData calls each for the chunks of a byte range that are not all zeros.
func eachData(in io.ReaderAt, d segment.ByteRange, each func(at int64, b []byte) error) error {
	buf := make([]byte, chunkSize)
	for at := vfs.NextData(in, d.From); at < d.To; at = vfs.NextData(in, at) {
		n, err := in.ReadAt(buf[:min(chunkSize, d.To-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return nil // the file ends here
		}
		if len(bytes.TrimRight(buf[:n], "\x00")) > 0 {
			if err := each(at, buf[:n]); err != nil {
				return err
			}
		}
		at += int64(n)
	}
	return nil
}

// quarantineDir moves an entry of the log directory to the quarantine.
func (b *base) quarantineDir(name string) error { return b.quarantinePath(filepath.Join(b.dir, name)) }

// quarantinePath moves a file, directory or link to the quarantine as it is. It
// replaces nothing there.
func (b *base) quarantinePath(path string) error {
	dir := filepath.Join(b.dir, quarantineName)
	if err := b.disk.MkdirDurably(dir); err != nil {
		return err
	}
	base := filepath.Join(dir, fmt.Sprintf("%s-%016x", filepath.Base(path), b.runID))
	to := base
	for n := 2; ; n++ {
		if _, err := b.disk.Stat(to); err != nil {
			break
		}
		to = fmt.Sprintf("%s-%d", base, n)
	}
	if err := b.disk.RenameDurably(path, to); err != nil {
		return err
	}
	return b.disk.SyncDir(filepath.Dir(path))
}

// sizeWithoutZeros returns the size of a byte range without its trailing zeros.
func sizeWithoutZeros(in io.ReaderAt, d segment.ByteRange) (size int64, err error) {
	err = eachData(in, d, func(at int64, b []byte) error {
		size = at - d.From + int64(len(bytes.TrimRight(b, "\x00")))
		return nil
	})
	return size, err
}
