package shipper

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

func TestConfirmedBelowIsNeverAheadOfTheStorage(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	dir := t.TempDir()
	l := openLog(t, dir)
	fill(t, l, 400, 10)
	// One segment is damaged, so that loss notes are stored meanwhile.
	files, _ := filepath.Glob(filepath.Join(dir, "wal", "00000000000000000101-*", "*"))
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	isStored := make([]bool, 402)
	f.Behave(s3test.Behaviour{
		Fault: func(w http.ResponseWriter, _ *http.Request) bool {
			return rand.IntN(10) == 0 && s3test.Error(w, http.StatusInternalServerError, "InternalError")
		},
		Stored: func(key string) bool {
			m := objectMetadata(t, f, key)
			mu.Lock()
			defer mu.Unlock()
			for seq := uint64(1); seq < m.ConfirmedBelow; seq++ {
				if !isStored[seq] {
					t.Errorf("%s claims that all records below %d are stored, but %d is not", key, m.ConfirmedBelow, seq)
					break
				}
			}
			for seq := m.FirstSeq; seq <= m.LastSeq; seq++ {
				isStored[seq] = true
			}
			return false
		},
	})
	s := startWith(t, l, store, Options{Limits: Limits{Concurrency: 8, RetryMin: time.Millisecond, RetryMax: time.Millisecond}})
	until(t, "all records are shipped", func() bool { return l.Ledger().Pending == 0 && l.Stats().LossNotes == 0 })
	drain(t, s, 0)
	// A later object confirms everything before it.
	f.Behave(s3test.Behaviour{})
	fill(t, l, 1, 1)
	drainAll(t, s)
	for key := range f.Objects() {
		if m := objectMetadata(t, f, key); strings.Contains(key, "-00000000000000000401-") && m.ConfirmedBelow != 401 {
			t.Errorf("the last object has confirmed-below %d, want 401", m.ConfirmedBelow)
		}
	}
}

func TestConfirmedBelowStopsAtALossWithoutAStoredNote(t *testing.T) {
	f, store := newFake(t)
	dir := t.TempDir()
	l := openLog(t, dir)
	fill(t, l, 30, 10)
	files, _ := filepath.Glob(filepath.Join(dir, "wal", "00000000000000000011-*", "*"))
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/lost/") && s3test.Error(w, http.StatusInternalServerError, "InternalError")
	}})
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: time.Millisecond, RetryMax: time.Millisecond}})
	for i := range 3 {
		until(t, "all records but the note are shipped", func() bool { return l.Ledger().Pending == 0 && l.Stats().LossNotes == 1 })
		fill(t, l, 1, 1)
		until(t, "one more record is shipped", func() bool { return l.Ledger().Pending == 0 })
		for key := range f.Objects() {
			if m := objectMetadata(t, f, key); m.FirstSeq == uint64(31+i) && m.ConfirmedBelow != 11 {
				t.Errorf("%s has confirmed-below %d, although the loss of 11 to 20 is not noted yet", key, m.ConfirmedBelow)
			}
		}
	}
	f.Behave(s3test.Behaviour{})
	drainAll(t, s)
}

// objectMetadata reads the metadata that readers rely on.
func objectMetadata(t *testing.T, f *s3test.Server, key string) (m bucket.Metadata) {
	t.Helper()
	h := f.Objects()[key].Header
	for name, to := range map[string]*uint64{"First-Seq": &m.FirstSeq, "Last-Seq": &m.LastSeq, "Confirmed-Below": &m.ConfirmedBelow} {
		if text := h.Get("X-Amz-Meta-Collectord-" + name); text != "" {
			var err error
			if *to, err = strconv.ParseUint(text, 10, 64); err != nil {
				t.Error(err)
			}
		}
	}
	return m
}
