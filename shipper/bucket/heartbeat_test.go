package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket/s3test"
)

var testHeartbeatKey = Key{Node: "ward-3.edge-1", LogID: 0xabc, Run: 0xdef}

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
				SecondsUntilFull: &seconds, FreeBytes: 5, Trouble: []Trouble{{Name: "shipping", Message: "AccessDenied"}}, At: time.Date(2026, 11, 24, 12, 0, int(i), 5, time.UTC),
			}
			o, err := NewHeartbeat(testHeartbeatKey, h)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Put(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			got, err := ReadHeartbeat(context.Background(), store, testHeartbeatKey)
			if err != nil || got.LastSeq != h.LastSeq || *got.SecondsUntilFull != seconds || got.Node != testHeartbeatKey.Node || got.Run != "0000000000000def" ||
				got.OldestAt() != got.At.Add(-time.Minute) || !reflect.DeepEqual(got.Trouble, h.Trouble) || got.At.Nanosecond() != 0 {
				t.Errorf("%s: %+v, %v", store, got, err)
			}
		}
	}
	if o, ok := f.Objects()["data/_collectord/nodes/ward-3.edge-1-0000000000000abc.json"]; !ok || o.Header.Get("X-Amz-Storage-Class") != "" || o.Header.Get("If-None-Match") != "" {
		t.Errorf("put with header %v", o.Header)
	}
}

func TestSameStateIgnoresValuesThatAlwaysChange(t *testing.T) {
	seconds := int64(7)
	before := Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Clients: []Client{{Name: "a"}, {Name: "b"}}}
	same := before.Clients
	for name, c := range map[string]struct {
		now  Heartbeat
		same bool
	}{
		"nothing":            {before, true},
		"time, disk and age": {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Clients: same, At: time.Now(), RunSeconds: 8, FreeBytes: 9, OldestUnshipped: 6, SecondsUntilFull: &seconds}, true},
		"vanished":           {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Clients: same, Vanished: 1}, false},
		"records":            {Heartbeat{LastSeq: 8, ConfirmedBelow: 3, Pending: 5, Clients: same}, false},
		"trouble":            {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Clients: same, Trouble: []Trouble{{Name: "x"}}}, false},
		"clients are seen":   {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, NextSeconds: 1, DayUsages: 2, DaySeconds: 3, Clients: []Client{{Name: "b", Usages: 1}, {Name: "a"}}}, true},
		"another client":     {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Clients: []Client{{Name: "a"}, {Name: "c"}}}, false},
		"more clients":       {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Clients: same, ClientsKnown: 1}, false},
		"retirement":         {Heartbeat{LastSeq: 7, ConfirmedBelow: 3, Pending: 5, Clients: same, Retired: true}, false},
	} {
		if c.now.SameState(before) != c.same {
			t.Errorf("%s: SameState is %v", name, !c.same)
		}
	}
}

// TestHostileHeartbeatsAreRefused: anyone who can write to the bucket can put any content
// there.
func TestHostileHeartbeatsAreRefused(t *testing.T) {
	root := t.TempDir()
	store, err := newFolder(root, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, filepath.FromSlash(testHeartbeatKey.HeartbeatKey()))
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	good, err := NewHeartbeat(testHeartbeatKey, Heartbeat{LastSeq: 1, ConfirmedBelow: 1, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, good.Size)
	if _, err := good.Body.ReadAt(text, 0); err != nil {
		t.Fatal(err)
	}
	replacing := func(old, replacement string) []byte {
		t.Helper()
		if !bytes.Contains(text, []byte(old)) {
			t.Fatalf("%s is not in %s", old, text)
		}
		return bytes.Replace(text, []byte(old), []byte(replacement), 1)
	}
	for name, content := range map[string][]byte{
		"blank":                        []byte("\n"),
		"endless":                      bytes.Repeat([]byte(" "), 1<<20),
		"not JSON":                     []byte("\x1b[2J"),
		"cut off":                      text[:len(text)-3],
		"of another node":              replacing(`"node":"ward-3`, `"node":"ward-4`),
		"of another log":               replacing(`0abc"`, `0abd"`),
		"a later format":               replacing(`"format":1`, `"format":2`),
		"a seq above the maximum":      replacing(`"last_seq":1`, fmt.Sprintf(`"last_seq":%d`, uint64(1<<63))),
		"more confirmed than appended": replacing(`"confirmed_below":1`, `"confirmed_below":3`),
		"nothing confirmed":            replacing(`"confirmed_below":1`, `"confirmed_below":0`),
		"no time":                      replacing(`"at":"2`, `"at":"x`),
		"a time before 1970":           replacing(`"at":"2`, `"at":"0`),
		"the year 10000":               replacing(`"at":"2`, `"at":"9999-12-31T23:59:59-01:00","x":"2`),
		"a long trouble":               replacing(`"trouble":[]`, `"trouble":[{"message":"`+strings.Repeat("x", 1000)+`"}]`),
		"many troubles":                replacing(`"trouble":[]`, `"trouble":[{}`+strings.Repeat(",{}", 10)+`]`),
		"a negative number":            replacing(`"pending":0`, `"pending":-1`),
		"a negative day":               replacing(`"day_seconds":0`, `"day_seconds":-1`),
		"more clients than known":      replacing(`"clients_known":0`, `"clients_known":0,"clients":[{"name":"a"}]`),
		"a client with a long name":    replacing(`"clients_known":0`, `"clients_known":1,"clients":[{"name":"`+strings.Repeat("x", 64)+`"}]`),
		"10 MB":                        append(bytes.Repeat([]byte(" "), 10<<20), text...),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var damage *Damage
		if h, err := ReadHeartbeat(context.Background(), store, testHeartbeatKey); !errors.As(err, &damage) || !reflect.DeepEqual(h, Heartbeat{}) || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	if err := os.WriteFile(path, replacing(`"node"`, `"a field of a later version":[{}],"node"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadHeartbeat(context.Background(), store, testHeartbeatKey); err != nil {
		t.Error(err)
	}
}

// TestARejectedHeartbeatKeepsTheCapabilities checks also that the metadata does not become
// doubtful.
func TestARejectedHeartbeatKeepsTheCapabilities(t *testing.T) {
	for name, behaviour := range map[string]s3test.Behaviour{
		"not implemented": {Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/nodes/") && s3test.Error(w, http.StatusNotImplemented, "NotImplemented")
		}},
		"a condition failed that was not set": {Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/nodes/") && s3test.Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
		}},
		"a page": {Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/nodes/") && s3test.LoginPage(w, http.StatusOK)
		}},
		"not replaced": {Lie: s3test.KeepsNothing},
	} {
		f, s := newFake(t)
		if err := s.Put(context.Background(), testObject("a", "x")); err != nil {
			t.Fatal(err)
		}
		o, err := NewHeartbeat(testHeartbeatKey, Heartbeat{ConfirmedBelow: 1, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		f.Behave(behaviour)
		var failure *Error
		if err := s.Put(context.Background(), o); !errors.As(err, &failure) {
			t.Errorf("%s: %v", name, err)
		}
		if s.current.Load() == nil || s.proofFailed.Load() {
			t.Errorf("%s: capabilities are known: %v, proof has failed: %v", name, s.current.Load() != nil, s.proofFailed.Load())
		}
	}
}

func TestKeysOfHeartbeatsAreReadBack(t *testing.T) {
	if k, ok := ParseHeartbeatKey(testHeartbeatKey.HeartbeatKey()); !ok || k != (Key{Node: testHeartbeatKey.Node, LogID: testHeartbeatKey.LogID}) {
		t.Errorf("%+v, %v", k, ok)
	}
	for _, key := range []string{
		"", "_collectord/nodes/", "_collectord/nodes/.json", "_collectord/nodes/-0000000000000abc.json", "_collectord/nodes/n-0000000000000ABC.json",
		"_collectord/nodes/n-000000000000abc.json", "_collectord/nodes/a/n-0000000000000abc.json", "_collectord/lost/n-0000000000000abc.json", "nodes/n-0000000000000abc.json",
	} {
		if k, ok := ParseHeartbeatKey(key); ok {
			t.Errorf("%s was parsed as %+v", key, k)
		}
	}
}

// TestAHeartbeatListsAsManyClientsAsFit: readers accept only a limited size.
func TestAHeartbeatListsAsManyClientsAsFit(t *testing.T) {
	store, err := newFolder(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	h := Heartbeat{ConfirmedBelow: 1, At: at, Version: "1"}
	for i := range 11 {
		h.Trouble = append(h.Trouble, Trouble{Name: fmt.Sprint("t", i), Message: strings.Repeat("\u00e9", 300)})
	}
	for known, listed := range map[int]int{0: 0, 4: 4, 500: 500, 5000: 978} {
		h.ClientsKnown, h.Clients = known, nil
		for i := range known {
			h.Clients = append(h.Clients, Client{Name: fmt.Sprintf("ward-%04d", i), LastSeen: &at})
		}
		o, err := NewHeartbeat(testHeartbeatKey, h)
		if err == nil {
			err = store.Put(t.Context(), o)
		}
		if err != nil || o.Size > maxHeartbeatBytes {
			t.Fatalf("%d bytes: %v", o.Size, err)
		}
		got, err := ReadHeartbeat(t.Context(), store, testHeartbeatKey)
		if err != nil || got.ClientsKnown != known || len(got.Clients) != listed || listed > 0 && got.Clients[listed-1].Name != fmt.Sprintf("ward-%04d", listed-1) {
			t.Errorf("%d clients, %d are listed, want %d: %v", known, len(got.Clients), listed, err)
		}
		if len(got.Trouble) != maxTroubles || len(got.Trouble[0].Message) > maxTextBytes || !strings.HasSuffix(got.Trouble[0].Message, "\u00e9…") {
			t.Errorf("%+v", got.Trouble)
		}
	}
}

func TestIntervalOfAHeartbeatIsBounded(t *testing.T) {
	for seconds, want := range map[int64]time.Duration{0: DefaultInterval, -5: DefaultInterval, 300: 5 * time.Minute, 1 << 62: MaxInterval} {
		if h := (Heartbeat{NextSeconds: seconds}); h.Interval() != want {
			t.Errorf("next_seconds %d: interval %v, want %v", seconds, h.Interval(), want)
		}
	}
}
