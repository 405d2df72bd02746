package shipper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"collectord/collectord/testrun"
	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

// readNotes returns the loss notes in a storage, by seq.
func readNotes(t *testing.T, f *s3test.Server) (notes []bucket.LossNote) {
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

// TestLossNotesOmitRecordsThatTheStorageHas evicts five segments. Unconfirmed uploads have
// stored some of them before.
func TestLossNotesOmitRecordsThatTheStorageHas(t *testing.T) {
	t.Parallel()
	refuses := func(method, query string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == method && strings.Contains(r.URL.RawQuery, query) && !strings.Contains(r.URL.Path, "/lost/") &&
				s3test.Error(w, http.StatusForbidden, "AccessDenied")
		}
	}
	for name, c := range map[string]struct {
		uploaded  []int // indexes from 0 to 4
		behaviour s3test.Behaviour
		damage    func([]byte) []byte
		want      string
	}{
		"none":                        {want: "1-50 true"},
		"the first":                   {uploaded: []int{0}, want: "11-50 true"},
		"two in between":              {uploaded: []int{1, 3}, want: "1-10 true, 21-30 true, 41-50 true"},
		"the last":                    {uploaded: []int{4}, want: "1-40 true"},
		"all":                         {uploaded: []int{0, 1, 2, 3, 4}},
		"half of one object":          {uploaded: []int{1}, damage: func(b []byte) []byte { return b[:len(b)/2] }, want: "1-50 true"},
		"a damaged object":            {uploaded: []int{1}, damage: func(b []byte) []byte { b[len(b)/4] ^= 1; return b }, want: "1-50 true"},
		"two, and listing is denied":  {uploaded: []int{1, 3}, behaviour: s3test.Behaviour{Fault: refuses("GET", "list-type")}, want: "1-50 false"},
		"two, and reading is denied":  {uploaded: []int{1, 3}, behaviour: s3test.Behaviour{Fault: refuses("GET", "")}, want: "1-50 false"},
		"two, without metadata":       {uploaded: []int{1, 3}, behaviour: s3test.Behaviour{NoMetadata: true}, want: "1-10 true, 21-30 true, 41-50 true"},
		"two, and some requests fail": {uploaded: []int{1, 3}, behaviour: failSome(), want: "1-10 true, 21-30 true, 41-50 true"},
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
				o := compressCopy(t, segments[i])
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
			// While the storage fails, the log has room for only one segment.
			l.SetLimits(wal.Limits{MaxBytes: l.Stats().Bytes - 4*segments[0].Bytes(), WhenFull: wal.DropOldest, SealAfter: time.Hour})
			until(t, "five segments are evicted", func() bool { return l.Ledger().Evicted == 50 })
			f.Behave(c.behaviour)
			drainAll(t, start(t, l, store))
			var got []string
			for _, n := range readNotes(t, f) {
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

// failSome fails a quarter of the requests on average.
func failSome() s3test.Behaviour {
	return s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		return rand.IntN(4) == 0 && s3test.Error(w, http.StatusInternalServerError, "InternalError")
	}}
}

// TestAnUnreadableDirectoryOfLossNotesIsNamed puts a file in the place of the directory. The
// segments are shipped, and the log line names the directory.
func TestAnUnreadableDirectoryOfLossNotesIsNamed(t *testing.T) {
	t.Parallel()
	_, store := newFake(t)
	dir := t.TempDir()
	l := openLog(t, dir)
	fill(t, l, 20, 10)
	lost := filepath.Join(dir, "wal", "lost")
	if err := errors.Join(os.Rename(lost, lost+".old"), os.WriteFile(lost, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	var logged logBuffer
	startWith(t, l, store, Options{Logger: logged.logger(), Limits: Limits{RetryMin: time.Millisecond, RetryMax: time.Millisecond}})
	until(t, "the segments are shipped", func() bool { return l.Ledger().Pending == 0 })
	const message = "can't ship the loss notes"
	until(t, "the failure is logged", func() bool { return logged.lineWith(message) != "" })
	line := logged.lineWith(message)
	if !strings.Contains(line, `segment="loss notes"`) || !strings.Contains(line, lost) {
		t.Errorf("no line names the directory: %s", logged.text())
	}
	if err := errors.Join(os.Remove(lost), os.Rename(lost+".old", lost)); err != nil {
		t.Fatal(err)
	}
	until(t, "the end is logged", func() bool { return logged.lineWith("no loss note is held up any more") != "" })
}
