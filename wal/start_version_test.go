package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"collectord/wal"
)

// laterHeader returns a segment header of a later version, with n more bytes.
func laterHeader(n int) []byte {
	b := append([]byte("\xffcdS\x02\x00\x00\x00"), bytes.Repeat([]byte("later "), (n+24+5)/6)[:n+24]...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

// laterIdentity returns a LOG of a later version, with other fields.
func laterIdentity(fields string) []byte {
	body := "collectord-log 2 " + fields
	return fmt.Appendf(nil, "%s %08x\n", body, crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)))
}

// stateOf returns everything in a directory: names, modes, times and contents.
func stateOf(t *testing.T, dir string) (all string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all += fmt.Sprintln(path, info.Mode(), info.ModTime().UnixNano())
		if !e.IsDir() {
			b, err := os.ReadFile(path)
			all += string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A daemon that was downgraded to an earlier version changes nothing that a later
// version wrote, and reports it.
func TestADirectoryOfALaterVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	const file = "/00000000000000000001"
	contents := map[string][]byte{"LOG": laterIdentity("0123456789abcdef -"), "LOG, longer": laterIdentity("a b c d e f"), "LOG, shorter": laterIdentity("0")}
	for _, n := range []int{0, 255, 256, 1000, 60_000} {
		content := append(laterHeader(n), "frames of a later version"...)
		for _, place := range []string{"00000000000000000003-00000000000000000004", "00000000000000000007", "next", "00000000000000000008.tail", "00000000000000000003-00000000000000000004.gone"} {
			contents[fmt.Sprintf("%s%s, %d more bytes", place, file, n)] = content
		}
	}
	for name, content := range contents {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(scratchDir(t), "data")
			makeOpenLog(t, data)
			place, _, _ := strings.Cut(name, ",")
			path := filepath.Join(data, "wal", place)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, content, 0o600)); err != nil {
				t.Fatal(err)
			}
			before := stateOf(t, data)
			l, err := wal.Open(data, wal.Options{SegmentSize: 4 << 10, MachineID: "/nonexistent"})
			if err == nil {
				_ = l.Close()
			}
			if !errors.Is(err, wal.ErrVersion) || !strings.Contains(err.Error(), "a later version wrote "+strings.TrimSuffix(path, file)+":") {
				t.Errorf("opened a directory of a later version: %v", err)
			}
			if after := stateOf(t, data); after != before {
				t.Errorf("the directory was changed to\n%.2000q\nfrom\n%.2000q", after, before)
			}
		})
	}
}
