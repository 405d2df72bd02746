package segment

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"path/filepath"

	"collectord/wal/vfs"
)

// Copy writes one piece, with the scan's header, as the segment directory dir and returns
// the size of its file in bytes. On success everything but the name of dir is durable.
func (s *Scan) Copy(p Piece, dir string) (size int64, err error) {
	in, err := s.reopen()
	if err != nil {
		return 0, err
	}
	defer in.close()
	if err := s.disk.Mkdir(dir); err != nil {
		return 0, err
	}
	file, err := s.disk.Create(filepath.Join(dir, FileName))
	if err != nil {
		return 0, err
	}
	out := &entryCopier{out: io.NewOffsetWriter(file, 0)}
	err = out.writeEntry(s.Header.append(nil), nil, 0)
	for _, e := range p.extents {
		if err == nil {
			err = in.eachFrame(e, func(f frame) error { return out.copyFrame(in, f) })
		}
	}
	if err != nil {
		return 0, errors.Join(err, file.Close())
	}
	if err := vfs.Finish(file, nil); err != nil {
		return 0, err
	}
	return out.size, s.disk.SyncDir(dir)
}

type entryCopier struct {
	out  io.Writer
	size int64
}

// writeEntry writes an entry that consists of head and n bytes of rest.
func (c *entryCopier) writeEntry(head []byte, rest io.Reader, n int64) error {
	length := int64(len(head)) + n
	if _, err := c.out.Write(append(binary.AppendUvarint(nil, uint64(length)), head...)); err != nil {
		return err
	}
	c.size += int64(uvarintLen(uint64(length))) + length
	if rest == nil {
		return nil
	}
	copied, err := io.Copy(c.out, rest)
	if err == nil && copied != n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// copyFrame copies a frame, and verifies its payload again.
func (c *entryCopier) copyFrame(in *scanner, f frame) error {
	head := make([]byte, frameHeaderSize)
	f.put(head)
	payload := crc32.New(castagnoli)
	rest := io.NewSectionReader(in.pages, f.from+frameHeaderSize, int64(f.payloadLen))
	if err := c.writeEntry(head, io.TeeReader(rest, payload), int64(f.payloadLen)); err != nil {
		return err
	}
	if f.payloadCRC != payload.Sum32() {
		return &DamageError{Path: in.path, Offset: f.from, Reason: errors.New("a frame reads differently than a moment ago")}
	}
	return nil
}
