package shipper

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"collectord/collectord/testrun"
	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

// notesIn reads the loss notes of a storage, by seq.
func notesIn(t *testing.T, f *s3test.Server) (notes []bucket.LossNote) {
	t.Helper()
	for key, o := range f.Objects() {
		if !strings.Contains(key, "/lost/") {
			continue
		}
		var n bucket.LossNote
		if err := json.Unmarshal(o.Body, &n); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		notes = append(notes, n)
	}
	slices.SortFunc(notes, func(a, b bucket.LossNote) int { return int(a.FirstSeq) - int(b.FirstSeq) })
	return notes
}

// TestWhatTheStorageHasIsNotNotedAsLost evicts five segments, of which the storage
// has some by uploads that were never confirmed.
func TestWhatTheStorageHasIsNotNotedAsLost(t *testing.T) {
	t.Parallel()
	refuses := func(method, query string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == method && strings.Contains(r.URL.RawQuery, query) && !strings.Contains(r.URL.Path, "/lost/") &&
				s3test.Error(w, http.StatusForbidden, "AccessDenied")
		}
	}
	for name, c := range map[string]struct {
		uploaded  []int // of 0 to 4
		behaviour s3test.Behaviour
		damage    func([]byte) []byte
		want      string
	}{
		"none":                           {want: "1-50 true"},
		"the first":                      {uploaded: []int{0}, want: "11-50 true"},
		"two in between":                 {uploaded: []int{1, 3}, want: "1-10 true, 21-30 true, 41-50 true"},
		"the last":                       {uploaded: []int{4}, want: "1-40 true"},
		"all":                            {uploaded: []int{0, 1, 2, 3, 4}},
		"half of one object":             {uploaded: []int{1}, damage: func(b []byte) []byte { return b[:len(b)/2] }, want: "1-50 true"},
		"a damaged object":               {uploaded: []int{1}, damage: func(b []byte) []byte { b[len(b)/4] ^= 1; return b }, want: "1-50 true"},
		"two, and it does not list":      {uploaded: []int{1, 3}, behaviour: s3test.Behaviour{Fault: refuses("GET", "list-type")}, want: "1-50 false"},
		"two, and it does not give them": {uploaded: []int{1, 3}, behaviour: s3test.Behaviour{Fault: refuses("GET", "")}, want: "1-50 false"},
		"two, and it forgets metadata":   {uploaded: []int{1, 3}, behaviour: s3test.Behaviour{NoMetadata: true}, want: "1-10 true, 21-30 true, 41-50 true"},
		"two, and some calls fail":       {uploaded: []int{1, 3}, behaviour: someFail(), want: "1-10 true, 21-30 true, 41-50 true"},
	} {
		t.Run(name, func(t *testing.T) {
			testrun.WaitPastHourEnd()
			f, store := newFake(t)
			dir := t.TempDir()
			options := wal.Options{Node: "edge-1", SegmentSize: 16 << 10}
			l, err := wal.Open(dir, options)
			if err != nil {
				t.Fatal(err)
			}
			fill(t, l, 60, 10)
			segments, _ := l.Sealed()
			for _, i := range c.uploaded {
				o := twin(t, segments[i])
				if c.damage != nil {
					b, err := io.ReadAll(io.NewSectionReader(o.Body, 0, o.Size))
					if err != nil {
						t.Fatal(err)
					}
					o = bucket.NewObject(o.Key, c.damage(b))
				}
				if err := store.Put(context.Background(), o); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l, err = wal.Open(dir, options); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			// Room for one segment remains, while the storage is away.
			l.SetLimits(wal.Limits{MaxBytes: l.Stats().Bytes - 4*segments[0].Bytes(), WhenFull: wal.DropOldest, SealAfter: time.Hour})
			until(t, "five segments are evicted", func() bool { return l.Ledger().Evicted == 50 })
			f.Behave(c.behaviour)
			drainHurriedly(t, start(t, l, store))
			var got []string
			for _, n := range notesIn(t, f) {
				got = append(got, fmt.Sprintf("%d-%d %t", n.FirstSeq, n.LastSeq, n.Checked))
				if n.Reason != wal.LossEvicted || n.Records != n.LastSeq-n.FirstSeq+1 {
					t.Errorf("%+v", n)
				}
			}
			if got := strings.Join(got, ", "); got != c.want {
				t.Errorf("notes of %s, want %s", got, c.want)
			}
		})
	}
}

// someFail fails one request of four, on the average.
func someFail() s3test.Behaviour {
	return s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		return rand.IntN(4) == 0 && s3test.Error(w, http.StatusInternalServerError, "InternalError")
	}}
}
