package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"collectord/wal/vfs"
)

// TestFramesThatContradictEachOther tests two valid frames with the same seqs.
func TestFramesThatContradictEachOther(t *testing.T) {
	frameOf := func(run, first uint64, usages ...string) []byte {
		var payload []byte
		for _, u := range usages {
			payload = AppendRecord(payload, &Record{Usage: []byte(u)})
		}
		b := append(make([]byte, frameHeaderSize), payload...)
		frameHeader{
			logID: 1, run: run, firstSeq: first, count: uint32(len(usages)),
			payloadLen: uint32(len(payload)), payloadCRC: crc32.Checksum(payload, castagnoli),
		}.put(b)
		return append(uvarint(len(b)), b...)
	}
	frame := func(first uint64, usages ...string) []byte { return frameOf(2, first, usages...) }
	header := Header{LogID: 1, Run: 2, Node: "edge-1"}.append(nil)
	header = append(uvarint(len(header)), header...)
	one, two, three := frame(1, "one"), frame(2, "two"), frame(3, "three")
	for _, r := range []struct {
		name string
		rows [][]byte
		want string
	}{
		{"the frame between its neighbours wins", [][]byte{one, two, three, frame(2, "TWO")}, "one two three"},
		{"it wins behind the other, too", [][]byte{frame(2, "TWO"), one, two, three}, "one two three"},
		{"it wins over a frame with several seqs", [][]byte{one, two, three, frame(2, "TWO", "THREE")}, "one two three"},
		{"one neighbour is better than none", [][]byte{one, two, []byte("damaged"), frame(2, "TWO"), []byte("damaged"), three}, "one two three"},
		{"without a better one, neither is kept", [][]byte{one, []byte("x"), two, []byte("x"), frame(2, "TWO"), []byte("x"), three}, "one three"},
		{"copies count once", [][]byte{one, two, []byte("x"), two, []byte("x"), two, three}, "one two three"},
		{"another run", [][]byte{one, two, frameOf(9, 3, "THREE"), three}, "one two three"},
	} {
		t.Run(r.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), FileName)
			if err := os.WriteFile(path, slices.Concat(header, bytes.Join(r.rows, nil)), 0o600); err != nil {
				t.Fatal(err)
			}
			w, err := Wanted{First: 1, Last: 3}.Scan(vfs.OSDisk(), path)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if err := w.Records(func(r *Record) error {
				got = append(got, string(r.Usage))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if text := fmt.Sprint(got); text != "["+r.want+"]" {
				t.Errorf("%s, want %s; reason: %v", text, r.want, w.Reason)
			}
			if w.Reason == nil {
				t.Error("no reason to salvage it")
			}
		})
	}
}

func uvarint(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
