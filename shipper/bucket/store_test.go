package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"collectord/collectord/testrun"
	"collectord/shipper/bucket/s3test"
)

// testObject returns an object with made-up metadata, which stores do not check.
func testObject(key, content string) *Object {
	o := NewObject(key, []byte(content))
	o.Metadata = Metadata{Format: 1, Node: "n", LogID: "1", Run: "2", FirstSeq: 3, LastSeq: 4, Records: 2, RawBytes: 9, SHA256: "ab", ConfirmedBelow: 3}
	return o
}

// wantMetadata returns the metadata that a storage should return for an object.
func wantMetadata(o *Object, keepsMetadata bool) Metadata {
	if keepsMetadata {
		return o.Metadata
	}
	return metadataFromKey(o.Key)
}

// TestStores runs one suite with every kind of storage.
func TestStores(t *testing.T) {
	t.Parallel()
	t.Run("file", func(t *testing.T) {
		s, err := newFolder(filepath.Join(t.TempDir(), "deep", "archive"), testOwner)
		if err != nil {
			t.Fatal(err)
		}
		testStoreBasics(t, s, false)
		testManyObjects(t, s, false, largeObject)
		testRacingPuts(t, s)
	})
	t.Run("file, where names can only be claimed", func(t *testing.T) {
		s := newBareFolder(t, t.TempDir(), testOwner)
		testStoreBasics(t, s, false)
		testManyObjects(t, s, false, largeObject)
		testRacingPuts(t, s)
	})
	for name, c := range map[string]struct {
		behaviour  s3test.Behaviour
		checksum   checksum
		conditions bool
		racy       bool // without conditions, several racing puts may succeed
	}{
		"fake":                         {s3test.Behaviour{}, checksumCRC32C, true, false},
		"fake that rejects conditions": {s3test.Behaviour{Conditions: s3test.Refuse}, checksumCRC32C, false, true},
		"fake that rejects conditions as invalid": {s3test.Behaviour{Conditions: s3test.RefuseAsInvalid}, checksumCRC32C, false, true},
		"fake that ignores conditions":            {s3test.Behaviour{Conditions: s3test.Ignore}, checksumCRC32C, false, true},
		"fake without CRC-32C":                    {s3test.Behaviour{NoCRC32C: true}, checksumMD5, true, false},
		"fake without CRC-32C and MD5":            {s3test.Behaviour{NoCRC32C: true, NoMD5: true}, checksumSHA256, true, false},
		"fake without metadata":                   {s3test.Behaviour{NoMetadata: true}, checksumCRC32C, true, false},
		"fake without all of these": {
			s3test.Behaviour{NoCRC32C: true, NoMD5: true, NoMetadata: true, Conditions: s3test.RefuseAsInvalid}, checksumSHA256, false, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t)
			f.Behave(c.behaviour)
			testStoreBasics(t, s, !c.behaviour.NoMetadata)
			large := largeObject / testrun.OneIn(17)
			if name == "fake" {
				large = largeObject
			}
			testManyObjects(t, s, !c.behaviour.NoMetadata, large)
			if !c.racy {
				testRacingPuts(t, s)
			}
			if can := s.current.Load(); can.checksum != c.checksum || can.conditional != c.conditions {
				t.Errorf("found %+v, want checksum %s and conditions %v", can, c.checksum, c.conditions)
			}
		})
	}
	for name, start := range map[string]func(testing.TB) string{"MinIO": s3test.MinIO, "versitygw": s3test.Versity} {
		for checksum, number := range map[string]checksum{"auto": checksumCRC32C, "crc32c": checksumCRC32C, "md5": checksumMD5, "sha256": checksumSHA256, "off": checksumOff} {
			t.Run(name+" with checksum "+checksum, func(t *testing.T) {
				s := newBucket(t, start(t), false, func(o *S3Options) { o.Checksum = checksum })
				testStoreBasics(t, s, true)
				if checksum == "auto" {
					testManyObjects(t, s, true, largeObject)
				}
				testRacingPuts(t, s)
				if can := s.current.Load(); can.checksum != number || !can.conditional {
					t.Errorf("found %+v", can)
				}
				if number == checksumOff {
					return
				}
				o := testObject("bad", "bytes that change on the way").withWrongChecksums()
				var storeErr *Error
				if err := s.Put(context.Background(), o); !errors.As(err, &storeErr) || storeErr.Permanent {
					t.Errorf("a put with the wrong checksum: %v", err)
				}
			})
		}
	}
}

// largeObject is more bytes than the library sends in one part by default.
const largeObject = 17 << 20

// testManyObjects puts many objects, and one of more than largeBytes.
func testManyObjects(t *testing.T, s Store, keepsMetadata bool, largeBytes int) {
	ctx := context.Background()
	for i := range 3 * 50 { // more than one page of the fake
		if err := s.Put(ctx, testObject(fmt.Sprintf("_collectord/lost/%03d.json", i), "x")); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, err := range s.List(ctx, "_collectord/lost/") {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != 150 {
		t.Errorf("listed %d of 150 objects", n)
	}
	large := make([]byte, largeBytes)
	rand.NewChaCha8([32]byte{}).Read(large)
	o := testObject(Key{Node: "node.name_1", LogID: 1, Run: 2, FirstSeq: 3, LastSeq: 7, Beside: true}.String(), string(large))
	if err := s.Put(ctx, o); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Stat(ctx, o.Key); err != nil || m.Metadata != wantMetadata(o, keepsMetadata) || m.Size != o.Size {
		t.Errorf("Stat of a large object: %+v, %v", m, err)
	}
	body, stored, err := s.Open(ctx, o.Key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	body.Close()
	if err != nil || !bytes.HasPrefix(got, large) || int64(len(got)) != o.Size || stored.Size != o.Size || stored.Metadata != wantMetadata(o, keepsMetadata) {
		t.Errorf("read a large object of %d bytes, %v", len(got), err)
	}
}

func testRacingPuts(t *testing.T, s Store) {
	t.Run("one of many racing puts wins", func(t *testing.T) {
		const racers = 16
		var wg sync.WaitGroup
		errs := make([]error, racers)
		objects := make([]*Object, racers)
		for i := range racers {
			objects[i] = testObject("race", fmt.Sprint(i))
		}
		for i := range racers {
			wg.Go(func() {
				for { // a storage may ask a loser to retry
					errs[i] = s.Put(context.Background(), objects[i])
					var storeErr *Error
					if !errors.As(errs[i], &storeErr) || storeErr.Permanent {
						return
					}
				}
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, ErrExists) {
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d puts of one key were confirmed, want 1", won)
		}
	})
}

func testStoreBasics(t *testing.T, s Store, keepsMetadata bool) {
	ctx := context.Background()
	o := testObject("dt=2026-11-23/hour=08/a.ndjson.zst", "content")
	if _, err := s.Stat(ctx, o.Key); !errors.Is(err, ErrNotFound) {
		t.Errorf("Stat of a missing object: %v", err)
	}
	if _, _, err := s.Open(ctx, o.Key); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open of a missing object: %v", err)
	}
	if err := s.Put(ctx, o); err != nil {
		t.Fatal(err)
	}
	other := testObject(o.Key, "other content")
	if err := s.Put(ctx, other); !errors.Is(err, ErrExists) {
		t.Errorf("a put over an object: %v", err)
	}
	if m, err := s.Stat(ctx, o.Key); err != nil || m.Metadata != wantMetadata(o, keepsMetadata) || m.Size != o.Size {
		t.Errorf("stat: %+v, %v", m, err)
	}
	body, stored, err := s.Open(ctx, o.Key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if err != nil || !strings.HasPrefix(string(got), "content") || int64(len(got)) != o.Size || stored.Size != o.Size || stored.Metadata != wantMetadata(o, keepsMetadata) {
		t.Errorf("read %q, %v", got, err)
	}
	body.Close()
	if err := s.Put(ctx, testObject("dt=2026-11-23/hour=09/b.ndjson.zst", "b")); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string]int{"dt=": 2, "dt=2026-11-23/hour=09/": 1, "nothing/": 0} {
		var keys []string
		for key, err := range s.List(ctx, prefix) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
		if len(keys) != want || want == 2 && !slices.Contains(keys, o.Key) {
			t.Errorf("list %q: %v", prefix, keys)
		}
	}

	// A put whose context has ended stores nothing.
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	o = testObject("stopped", "x")
	if err := s.Put(stopped, o); err == nil {
		t.Error("a put whose context has ended succeeded")
	}
	if _, err := s.Stat(ctx, o.Key); !errors.Is(err, ErrNotFound) {
		t.Errorf("a put whose context has ended stored something: %v", err)
	}
}
