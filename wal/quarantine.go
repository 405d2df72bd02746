package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// quarantineTail keeps the end of a file, without the zeros behind it, and
// returns how many bytes that is: none after a power loss, or where nothing was
// written yet.
func (l *Log) quarantineTail(name, path string, tail stretch) (kept int64, err error) {
	in, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	kept, err = withoutZeros(io.NewSectionReader(in, tail.from, tail.to-tail.from))
	if kept == 0 || err != nil {
		return 0, err
	}
	base := fmt.Sprintf("%s-%016x-at-%d", name, l.run, tail.from)
	tail.to = tail.from + kept
	return kept, l.quarantineBytes(base, name, in, tail, errors.New("no whole frame of this segment"))
}

// quarantineBytes copies a row of bytes of a segment to the quarantine, with a
// report beside it.
func (l *Log) quarantineBytes(base, segment string, in io.ReaderAt, d stretch, reason error) error {
	dir := filepath.Join(l.dir, quarantineName)
	if err := l.disk.makeDirDurably(dir); err != nil {
		return err
	}
	base = filepath.Join(dir, base)
	out, err := l.disk.open(base+".bin", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	kept, err := io.Copy(out, io.NewSectionReader(in, d.from, d.to-d.from))
	if err = l.disk.finish(out, err); err != nil {
		return err
	}
	report := fmt.Sprintf("segment: %s\noffset: %d\nbytes: %d\nreason: %v\n", segment, d.from, kept, reason)
	return l.disk.writeFileDurably(base+".txt", []byte(report))
}

// quarantineFile moves a file to the quarantine.
func (l *Log) quarantineFile(path string) error {
	dir := filepath.Join(l.dir, quarantineName)
	if err := l.disk.makeDirDurably(dir); err != nil {
		return err
	}
	return errors.Join(l.disk.rename(path, filepath.Join(dir, filepath.Base(path))), l.disk.syncDir(dir))
}

// quarantineDir moves a whole segment directory to the quarantine.
func (l *Log) quarantineDir(name string) error {
	dir := filepath.Join(l.dir, quarantineName)
	if err := l.disk.makeDirDurably(dir); err != nil {
		return err
	}
	to := filepath.Join(dir, fmt.Sprintf("%s-%016x", name, l.run))
	if err := l.disk.renameDurably(filepath.Join(l.dir, name), to); err != nil {
		return err
	}
	return l.disk.syncDir(l.dir)
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
