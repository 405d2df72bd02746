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

// quarantineTail keeps the end of a file, without the zeros behind it, and
// returns how many bytes that is: none after a power loss, or where nothing was
// written yet.
func (b *base) quarantineTail(name, path string, tail segment.ByteRange) (kept int64, err error) {
	in, err := b.disk.OpenRegular(path)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	kept, err = withoutZeros(io.NewSectionReader(in, tail.From, tail.To-tail.From))
	if kept == 0 || err != nil {
		return 0, err
	}
	base := fmt.Sprintf("%s-%016x-at-%d", name, b.runID, tail.From)
	tail.To = tail.From + kept
	return kept, b.quarantineBytes(base, name, in, tail, errors.New("no whole frame of this segment"))
}

// quarantineBytes copies a row of bytes of a segment to the quarantine, with a
// report beside it.
func (b *base) quarantineBytes(base, segment string, in io.ReaderAt, d segment.ByteRange, reason error) error {
	dir := filepath.Join(b.dir, quarantineName)
	if err := b.disk.MkdirDurably(dir); err != nil {
		return err
	}
	base, err := b.keepBytes(filepath.Join(dir, base), io.NewSectionReader(in, d.From, d.To-d.From))
	if err != nil {
		return err
	}
	report := fmt.Sprintf("segment: %s\noffset: %d\nbytes: %d\nreason: %v\n", segment, d.From, d.To-d.From, reason)
	return b.disk.WriteFileDurably(base+".txt", []byte(report))
}

// keepBytes writes a file that ends in .bin, and returns its name without that.
// A file that is there already is not replaced: one that holds the same will do.
func (b *base) keepBytes(base string, in *io.SectionReader) (string, error) {
	for n, path := 1, base; ; n++ {
		out, err := b.disk.Create(path + ".bin")
		if errors.Is(err, fs.ErrExist) {
			if sameContent(b.disk, path+".bin", in) {
				return path, nil
			}
			path = fmt.Sprintf("%s-%d", base, n+1)
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = io.Copy(io.NewOffsetWriter(out, 0), io.NewSectionReader(in, 0, in.Size()))
		return path, vfs.Finish(out, err)
	}
}

// sameContent reports whether a file holds what in does.
func sameContent(d vfs.Disk, path string, in *io.SectionReader) bool {
	file, err := d.OpenRegular(path)
	if err != nil {
		return false
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() != in.Size() {
		return false
	}
	left, right := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < in.Size(); {
		n, err := in.ReadAt(left[:min(int64(len(left)), in.Size()-at)], at)
		if n == 0 && err != nil {
			return false
		}
		if _, err := file.ReadAt(right[:n], at); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(left[:n], right[:n]) {
			return false
		}
		at += int64(n)
	}
	return true
}

// quarantineDir moves what has a name in the log directory to the quarantine.
func (b *base) quarantineDir(name string) error { return b.quarantinePath(filepath.Join(b.dir, name)) }

// quarantinePath moves a file or directory as it is, a link as a link, to the
// quarantine, where it replaces nothing.
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

// withoutZeros returns how much is left of r without the zeros at its end.
func withoutZeros(r io.Reader) (size int64, err error) {
	buf := make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := r.Read(buf)
		if kept := len(bytes.TrimRight(buf[:n], "\x00")); kept > 0 {
			size = at + int64(kept)
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
