package audit

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
	"collectord/wal"
)

func TestDeepAuditFindsObjectsThatContradictTheirMetadata(t *testing.T) {
	_, b := newFake(t)
	shipRecords(t, t.TempDir(), b.store, wal.Options{}, 100, 10)
	_, other := newFake(t)
	shipRecords(t, t.TempDir(), other.store, wal.Options{}, 10, 10)
	otherObject, otherMetadata := other.get(other.keyOfSeq(1))
	for seq, change := range map[uint64]struct {
		how    func(object []byte, m *bucket.Metadata) []byte
		kind   Kind
		reason string
	}{
		1:  {func([]byte, *bucket.Metadata) []byte { return nil }, Truncated, "empty"},
		11: {func(o []byte, _ *bucket.Metadata) []byte { return o[:len(o)-1] }, Truncated, "ends within its frame"},
		21: {func([]byte, *bucket.Metadata) []byte { return otherObject }, Damaged, "not those of its metadata"},
		31: {func(o []byte, _ *bucket.Metadata) []byte { o[len(o)-1] ^= 4; return o }, Damaged, "its content is damaged after"},
		41: {func([]byte, *bucket.Metadata) []byte { return []byte("of somebody else") }, Damaged, "its content is damaged after"},
		51: {func(_ []byte, m *bucket.Metadata) []byte { *m = otherMetadata; return otherObject }, Damaged, "another object"},
		61: {func(o []byte, _ *bucket.Metadata) []byte { return append(bytes.Clone(o), o...) }, Damaged, "the id of line 11"},
		71: {func(o []byte, m *bucket.Metadata) []byte { m.Records = 11; return o }, Damaged, "not those of its metadata: 10 records"},
		81: {func(o []byte, m *bucket.Metadata) []byte { m.SHA256 = strings.Repeat("0", 64); return o }, Damaged, "SHA-256"},
		91: {func(o []byte, m *bucket.Metadata) []byte { *m = bucket.Metadata{}; return withoutLastLine(t, o) }, Damaged, "it has 9 records, but its name promises 10"},
	} {
		key := b.keyOfSeq(seq)
		good, m := b.get(key)
		changed := m
		b.replace(key, change.how(bytes.Clone(good), &changed), changed)
		for _, workers := range []int{0, 1} {
			_, r := b.findings(Options{Deep: true, Workers: workers})
			if len(r.Findings) != 1 || r.Findings[0].Kind != change.kind || !strings.Contains(r.Findings[0].Reason, change.reason) ||
				r.Findings[0].FirstSeq != seq || r.Findings[0].Keys[0] != key {
				t.Errorf("seq %d: found %+v, want %s: %s", seq, r.Findings, change.kind, change.reason)
			}
		}
		b.replace(key, good, m)
	}
	if r := b.checkFindings(Options{Deep: true}, false); r.NoMetadata != 0 {
		t.Errorf("%d objects have no metadata, want 0", r.NoMetadata)
	}
	good, _ := b.get(b.keyOfSeq(1))
	b.replace(b.keyOfSeq(1), good, bucket.Metadata{})
	if r := b.checkFindings(Options{Deep: true}, false); r.NoMetadata != 1 {
		t.Errorf("%d objects have no metadata, want 1", r.NoMetadata)
	}
}

func withoutLastLine(t *testing.T, object []byte) []byte {
	t.Helper()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	lines, err := dec.DecodeAll(object, nil)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(lines[:bytes.LastIndexByte(lines[:len(lines)-1], '\n')+1], nil)
}

func TestDeepAuditFindsIDsOutOfOrderAcrossObjects(t *testing.T) {
	b := newFolder(t)
	shipRecords(t, t.TempDir(), b.store, wal.Options{}, 30, 10)
	// An intact object has the key of an earlier one.
	last, _ := b.get(b.keyOfSeq(21))
	b.replace(b.keyOfSeq(1), last, bucket.Metadata{})
	_, r := b.findings(Options{Deep: true})
	if len(r.Findings) != 1 || r.Findings[0].FirstSeq != 11 || !strings.Contains(r.Findings[0].Reason, "not above the last one of the object before") ||
		!slices.Equal(r.Findings[0].Keys, []string{b.keyOfSeq(11), b.keyOfSeq(1)}) {
		t.Errorf("found %+v", r.Findings)
	}
}
