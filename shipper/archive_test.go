package shipper_test

import (
	"bytes"
	"errors"
	"io/fs"
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

// TestArchiveRemoveKeepsTheOnlyCopy removes an object from the folder in which the destination
// has it, as if a server for S3 requests served that folder. Then an interrupted removal leaves
// the file aside.
func TestArchiveRemoveKeepsTheOnlyCopy(t *testing.T) {
	k := bucket.Key{Node: "edge-1", LogID: 1, Run: 2, FirstSeq: 3, LastSeq: 4}
	note := []byte(`{"log_id":"0000000000000001","run":"0000000000000002","first_seq":3,"last_seq":4,"reason":"evicted"}` + "\n")
	key := k.LossKey()
	from, to := t.TempDir(), t.TempDir()
	path := filepath.Join(from, key)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, note, 0o600)); err != nil {
		t.Fatal(err)
	}
	open := func(destination string) *shipper.Archive {
		t.Helper()
		store, err := bucket.Open(bucket.Destination{URL: "file://" + destination})
		if err != nil {
			t.Fatal(err)
		}
		archive, err := shipper.OpenArchive(from, store)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = archive.Close() })
		return archive
	}
	same := open(from)
	stored, err := same.Copy(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := same.Remove(t.Context(), key, stored); !errors.Is(err, shipper.ErrIsDestination) {
		t.Errorf("the removal of the only copy: %v", err)
	}
	if content, err := os.ReadFile(path); !bytes.Equal(content, note) {
		t.Fatalf("the only copy is lost: %q, %v", content, err)
	}

	if err := os.Rename(path, path+".aside"); err != nil {
		t.Fatal(err)
	}
	other := open(to)
	if stored, err = other.Copy(t.Context(), key); err != nil {
		t.Fatalf("a file that was left aside is not copied: %v", err)
	}
	if err := os.Remove(filepath.Join(to, key)); err != nil {
		t.Fatal(err)
	}
	var failed *bucket.Error
	if err := other.Remove(t.Context(), key, stored); !errors.As(err, &failed) || failed.Kind != "vanished" {
		t.Errorf("the removal of an object that has vanished: %v", err)
	}
	if stored, err = other.Copy(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := other.Remove(t.Context(), key, stored); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left after the removal: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(to, key)); errors.Is(err, fs.ErrNotExist) {
		t.Error("the object is gone")
	}
}
