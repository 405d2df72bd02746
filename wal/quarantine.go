package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// quarantineTail keeps the end of a file, unless it is all zeros, as after a
// power loss or where nothing was written yet.
func (l *Log) quarantineTail(name, path string, tail stretch) (kept bool, err error) {
	in, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer in.Close()
	if blank, err := allZero(io.NewSectionReader(in, tail.from, tail.to-tail.from)); blank || err != nil {
		return false, err
	}
	base := fmt.Sprintf("%s-%016x-at-%d", name, l.run, tail.from)
	return true, l.quarantineBytes(base, name, in, tail, errors.New("no whole frame of this segment"))
}

// quarantineBytes copies a row of bytes of a segment to the quarantine, with a
// report beside it.
func (l *Log) quarantineBytes(base, segment string, in io.ReaderAt, d stretch, reason error) error {
	dir := filepath.Join(l.dir, quarantineName)
	if err := makeDirDurably(dir); err != nil {
		return err
	}
	base = filepath.Join(dir, base)
	out, err := os.OpenFile(base+".bin", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	kept, err := io.Copy(out, io.NewSectionReader(in, d.from, d.to-d.from))
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	report := fmt.Sprintf("segment: %s\noffset: %d\nbytes: %d\nreason: %v\n", segment, d.from, kept, reason)
	return writeFileDurably(base+".txt", []byte(report))
}

// quarantineFile moves a file to the quarantine.
func (l *Log) quarantineFile(path string) error {
	dir := filepath.Join(l.dir, quarantineName)
	if err := makeDirDurably(dir); err != nil {
		return err
	}
	return errors.Join(os.Rename(path, filepath.Join(dir, filepath.Base(path))), syncDir(dir))
}

// quarantineDir moves a whole segment directory to the quarantine.
func (l *Log) quarantineDir(name string) error {
	dir := filepath.Join(l.dir, quarantineName)
	if err := makeDirDurably(dir); err != nil {
		return err
	}
	to := filepath.Join(dir, fmt.Sprintf("%s-%016x", name, l.run))
	if err := renameDurably(filepath.Join(l.dir, name), to); err != nil {
		return err
	}
	return syncDir(l.dir)
}

func allZero(r io.Reader) (bool, error) {
	buf := make([]byte, 64<<10)
	zero := make([]byte, len(buf))
	for {
		n, err := r.Read(buf)
		if !bytes.Equal(buf[:n], zero[:n]) {
			return false, nil
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}
