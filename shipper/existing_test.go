package shipper

import (
	"context"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"collectord/shipper/bucket"
)

func TestOtherContentUnderTheKeyStaysAndOursIsStoredBeside(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content   []byte
		conflicts uint64
		damaged   uint64
	}{
		"other lines":                {compressLines(t, "{}\n"), 1, 0},
		"content of another program": {[]byte("somebody else's"), 0, 1},
		"half of other lines":        {compressLines(t, strings.Repeat("{}\n", 1000))[:20], 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			fill(t, l, 6, 3)
			store := newFolder(t)
			segments, _ := l.Sealed()
			taken := compressCopy(t, segments[0])
			if err := store.Put(context.Background(), bucket.NewObject(taken.Key, c.content)); err != nil {
				t.Fatal(err)
			}
			s := start(t, l, store)
			drain(t, s, 0)
			objects := map[string]bool{}
			for key := range store.List(context.Background(), "dt=") {
				objects[key] = true
			}
			if st := s.Stats(); len(objects) != 3 || !objects[taken.Beside().Key] || st.Conflicts != c.conflicts || st.Failures[kindDamaged] != c.damaged || st.Objects != 2 {
				t.Errorf("objects %v, stats %+v", objects, st)
			}
		})
	}
}

// An object beside another has a key that identifies its lines. So a damaged object under this
// key is replaced.
func TestADamagedObjectBesideAnotherIsReplaced(t *testing.T) {
	l := openLog(t, t.TempDir())
	fill(t, l, 3, 3)
	store := newFolder(t)
	segments, _ := l.Sealed()
	taken := compressCopy(t, segments[0])
	for key, content := range map[string][]byte{taken.Key: compressLines(t, "{}\n"), taken.Beside().Key: []byte("damaged")} {
		if err := store.Put(context.Background(), bucket.NewObject(key, content)); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, l, store)
	drain(t, s, 0)
	if found, _, err := bucket.Compare(t.Context(), store, taken.Beside(), bucket.MetadataOnly); err != nil || found != bucket.SameLines || s.Stats().Failures[kindDamaged] != 1 {
		t.Errorf("%v, %v, %+v", found, err, s.Stats())
	}
}

func compressLines(t *testing.T, lines string) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll([]byte(lines), nil)
}
