package wal

import (
	"encoding/binary"
	"path/filepath"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

// simulatedWriter behaves like the log library, which needs files of the operating
// system. It writes the same bytes, also after an error, and syncs before it closes.
type simulatedWriter struct {
	file vfs.File
	end  int64
}

func newSimulatedWriter(d *simdisk.Disk, dir string, first []byte) (segment.EntryWriter, error) {
	f, err := d.Create(filepath.Join(dir, segment.FileName))
	if err != nil {
		return nil, err
	}
	w := &simulatedWriter{file: f}
	return w, w.Write(first)
}

func (w *simulatedWriter) Write(buf []byte) error {
	entry := buf[segment.MaxLengthPrefix:]
	b := append(binary.AppendUvarint(nil, uint64(len(entry))), entry...)
	n, err := w.file.WriteAt(b, w.end)
	w.end += int64(n)
	return err
}

func (w *simulatedWriter) KeepsCopies() bool { return false }

func (w *simulatedWriter) Close() error {
	if err := w.file.Sync(); err != nil {
		return err
	}
	return w.file.Close()
}
