package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket/s3test"
)

var beating = Key{Node: "ward-3.edge-1", LogID: 0xabc, Run: 0xdef}

func TestAHeartbeatIsReadBackAndReplacesTheOneBefore(t *testing.T) {
	f, s := newFake(t, func(o *S3Options) { o.StorageClass = "STANDARD_IA" })
	folder, err := newFolder(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	seconds := int64(3600)
	for _, store := range []Store{s, folder, newBucket(t, s3test.MinIO(t), false), newBucket(t, s3test.Versity(t), false)} {
		for i := range uint64(3) {
			h := Heartbeat{
				Version: "1.2.3", LastSeq: 100 + i, ConfirmedBelow: 90, Pending: 11, OldestUnshipped: 60,
				SecondsUntilFull: &seconds, FreeBytes: 5, Trouble: "shipping: AccessDenied", At: time.Date(2026, 11, 24, 12, 0, int(i), 5, time.UTC),
			}
			o, err := NewHeartbeat(beating, h)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Put(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			got, err := ReadHeartbeat(context.Background(), store, beating)
			if err != nil || got.LastSeq != h.LastSeq || *got.SecondsUntilFull != seconds || got.Node != beating.Node || got.Run != "0000000000000def" ||
				got.OldestAt() != got.At.Add(-time.Minute) || got.Trouble != h.Trouble || got.At.Nanosecond() != 0 {
				t.Errorf("%s: %+v, %v", store, got, err)
			}
		}
	}
	if o, ok := f.Objects()["data/_collectord/nodes/ward-3.edge-1-0000000000000abc.json"]; !ok || o.Header.Get("X-Amz-Storage-Class") != "" || o.Header.Get("If-None-Match") != "" {
		t.Errorf("it was put with %v", o.Header)
	}
}

func TestOnlyWhatConcernsPeopleIsAChange(t *testing.T) {
	seconds := int64(7)
	was := Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5}
	for what, is := range map[string]struct {
		now  Heartbeat
		same bool
	}{
		"nothing":            {was, true},
		"time, disk and age": {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, At: time.Now(), RunSeconds: 8, FreeBytes: 9, OldestUnshipped: 6, SecondsUntilFull: &seconds}, true},
		"vanished":           {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Vanished: 1}, false},
		"records":            {Heartbeat{LastSeq: 8, ConfirmedBelow: 3, Pending: 5}, false},
		"trouble":            {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Trouble: "x"}, false},
		"retirement":         {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Retired: true}, false},
	} {
		if is.now.Same(was) != is.same {
			t.Errorf("%s: the same: %v", what, !is.same)
		}
	}
}

// TestHostileHeartbeatsAreRefused: whoever can write to the bucket can put anything there.
func TestHostileHeartbeatsAreRefused(t *testing.T) {
	root := t.TempDir()
	store, err := newFolder(root, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, filepath.FromSlash(beating.HeartbeatKey()))
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	good, err := NewHeartbeat(beating, Heartbeat{LastSeq: 1, ConfirmedBelow: 1, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, good.Size)
	if _, err := good.Body.ReadAt(text, 0); err != nil {
		t.Fatal(err)
	}
	instead := func(what, by string) []byte {
		t.Helper()
		if !bytes.Contains(text, []byte(what)) {
			t.Fatalf("no %s in %s", what, text)
		}
		return bytes.Replace(text, []byte(what), []byte(by), 1)
	}
	for name, content := range map[string][]byte{
		"blank":                        []byte("\n"),
		"endless":                      bytes.Repeat([]byte(" "), 1<<20),
		"not JSON":                     []byte("\x1b[2J"),
		"cut off":                      text[:len(text)-3],
		"of another node":              instead(`"node":"ward-3`, `"node":"ward-4`),
		"of another log":               instead(`0abc"`, `0abd"`),
		"a later format":               instead(`"format":1`, `"format":2`),
		"a seq beyond all":             instead(`"last_seq":1`, fmt.Sprintf(`"last_seq":%d`, uint64(1<<63))),
		"more confirmed than there is": instead(`"confirmed_below":1`, `"confirmed_below":3`),
		"nothing confirmed":            instead(`"confirmed_below":1`, `"confirmed_below":0`),
		"no time":                      instead(`"at":"2`, `"at":"x`),
		"a time before all":            instead(`"at":"2`, `"at":"0`),
		"the year 10000":               instead(`"at":"2`, `"at":"9999-12-31T23:59:59-01:00","x":"2`),
		"a long trouble":               instead(`"trouble":""`, `"trouble":"`+strings.Repeat("x", 1000)+`"`),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var damage *Damage
		if h, err := ReadHeartbeat(context.Background(), store, beating); !errors.As(err, &damage) || h != (Heartbeat{}) || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadHeartbeat(context.Background(), store, beating); err != nil {
		t.Error(err)
	}
}

// TestARefusedHeartbeatChangesNothingForObjects: what was found out about the storage, and
// whether its answers are believed.
func TestARefusedHeartbeatChangesNothingForObjects(t *testing.T) {
	for name, behaviour := range map[string]s3test.Behaviour{
		"not implemented": {Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/nodes/") && s3test.Error(w, http.StatusNotImplemented, "NotImplemented")
		}},
		"a page": {Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/nodes/") && s3test.LoginPage(w, http.StatusOK)
		}},
		"not replaced": {Lie: s3test.KeepsNothing},
	} {
		f, s := newFake(t)
		if err := s.Put(context.Background(), unreal("a", "x")); err != nil {
			t.Fatal(err)
		}
		o, err := NewHeartbeat(beating, Heartbeat{ConfirmedBelow: 1, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		f.Behave(behaviour)
		var failure *Error
		if err := s.Put(context.Background(), o); !errors.As(err, &failure) {
			t.Errorf("%s: %v", name, err)
		}
		if s.known.Load() == nil || s.doubted.Load() {
			t.Errorf("%s: the capabilities are known: %v, doubted %v", name, s.known.Load() != nil, s.doubted.Load())
		}
	}
}

func TestKeysOfHeartbeatsAreReadBack(t *testing.T) {
	if k, ok := ParseHeartbeatKey(beating.HeartbeatKey()); !ok || k != (Key{Node: beating.Node, LogID: beating.LogID}) {
		t.Errorf("%+v, %v", k, ok)
	}
	for _, key := range []string{
		"", "_collectord/nodes/", "_collectord/nodes/.json", "_collectord/nodes/-0000000000000abc.json", "_collectord/nodes/n-0000000000000ABC.json",
		"_collectord/nodes/n-000000000000abc.json", "_collectord/nodes/a/n-0000000000000abc.json", "_collectord/lost/n-0000000000000abc.json", "nodes/n-0000000000000abc.json",
	} {
		if k, ok := ParseHeartbeatKey(key); ok {
			t.Errorf("%s is taken for %+v", key, k)
		}
	}
}
