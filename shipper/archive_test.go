package shipper_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"collectord/shipper"
	"collectord/shipper/bucket"
)

// TestArchiveCopyRejectsDamagedLossNotes copies notes that a power failure has damaged.
func TestArchiveCopyRejectsDamagedLossNotes(t *testing.T) {
	k := bucket.Key{Node: "edge-1", LogID: 1, Run: 2, FirstSeq: 3, LastSeq: 4}
	whole := []byte(`{"log_id":"0000000000000001","run":"0000000000000002","first_seq":3,"last_seq":4,"reason":"evicted"}` + "\n")
	for name, content := range map[string][]byte{
		"whole":    whole,
		"empty":    {},
		"zeros":    make([]byte, len(whole)),
		"cut off":  whole[:len(whole)/2],
		"more":     append(bytes.Clone(whole), whole...),
		"too long": append(bytes.Clone(whole), bytes.Repeat([]byte("\n"), 64<<10)...),
		"another":  bytes.Replace(whole, []byte(":3,"), []byte(":2,"), 1),
	} {
		t.Run(name, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			path := filepath.Join(from, k.LossKey())
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, content, 0o600)); err != nil {
				t.Fatal(err)
			}
			store, err := bucket.Open(bucket.Destination{URL: "file://" + to})
			if err != nil {
				t.Fatal(err)
			}
			archive, err := shipper.OpenArchive(from, store)
			if err != nil {
				t.Fatal(err)
			}
			defer archive.Close()
			_, err = archive.Copy(t.Context(), k.LossKey())
			stored, _ := os.ReadFile(filepath.Join(to, k.LossKey()))
			var damage *bucket.Damage
			if name == "whole" {
				if err != nil || !bytes.Equal(stored, whole) {
					t.Errorf("a whole note was not copied: stored %q, %v", stored, err)
				}
			} else if !errors.As(err, &damage) || stored != nil || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("a damaged note was copied: stored %.100q, %v", stored, err)
			}
		})
	}
}
