package audit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// TestADestinationThatFailsDoesNotHideTheOthers checks also that the failure makes the result
// wrong.
func TestADestinationThatFailsDoesNotHideTheOthers(t *testing.T) {
	t.Parallel()
	one, other := newFolder(t), newFolder(t)
	one.putObject("n", 7, 1, 1, 10, noon)
	one.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 10, ConfirmedBelow: 11, At: noon})
	other.putObject("m", 8, 1, 1, 10, noon)
	server, listed := newFake(t) // listing is denied
	half, unread := newFake(t)   // heartbeats can be read, but objects not listed
	refused := func(prefix string) s3test.Behaviour {
		return s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasPrefix(r.URL.Query().Get("prefix"), prefix) && s3test.Error(w, http.StatusForbidden, "AccessDenied")
		}}
	}
	server.Behave(refused(""))
	unread.putHeartbeat("h", 9, bucket.Heartbeat{ConfirmedBelow: 1, At: noon})
	half.Behave(refused("data/dt="))
	stores := []bucket.Store{listed.store, one.store, unread.store, bucket.Unopened("file:///nowhere", errors.New("no such folder")), other.store}
	for holes, want := range map[bool][]string{
		false: {"error", "error", "absent x", "unheard", "fine h 9", "fine n 7"},
		true:  {"error", "error", "error", "absent x", "unheard m 8", "fine h 9", "fine n 7"},
	} {
		f := checkFleet(t, stores, FleetOptions{AuditObjects: holes, Expected: []string{"x"}}, true, want...)
		for _, h := range f.Failed() {
			if h.Destination == "" || h.Reason == "" {
				t.Errorf("%+v", h)
			}
			if !strings.Contains(h.Reason, "s3:ListBucket") && h.Destination != "file:///nowhere" {
				t.Errorf("%+v", h)
			}
		}
		if n := len(f.Failed()); n != len(want)-4 || !strings.Contains(f.Hosts[n].Reason, "that can be read") {
			t.Errorf("%d destinations failed: %+v", n, f.Hosts[n])
		}
	}
	r, err := RunAll(t.Context(), stores, Options{Now: noon})
	if err != nil || r.Objects != 2 || !r.Wrong() {
		t.Fatalf("%v, %+v", err, r)
	}
	var failed []string
	for _, f := range r.Failed() {
		failed = append(failed, f.Destination+": "+f.Reason)
	}
	if len(failed) != 3 || !strings.HasPrefix(failed[0], listed.store.String()) || !strings.HasPrefix(failed[1], unread.store.String()) || failed[2] != "file:///nowhere: no such folder" {
		t.Errorf("%q", failed)
	}
	if r.Expect([]string{"x"}, time.Hour, noon); r.Tallies[Absent].Findings != 1 || !strings.Contains(r.Findings[3].Reason, "that can be read") {
		t.Errorf("%+v", r.Findings)
	}
	// The failure of the only destination is an error. The end of the context is one, too.
	for _, stores := range [][]bucket.Store{{listed.store}, stores[3:4]} {
		if _, err := RunFleet(t.Context(), stores, FleetOptions{}); err == nil {
			t.Error("the failure of the only destination is no error")
		}
		if _, err := RunAll(t.Context(), stores, Options{}); err == nil {
			t.Error("the failure of the only destination is no error")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := RunFleet(ctx, []bucket.Store{one.store, listed.store}, FleetOptions{}); err == nil {
		t.Error("an interrupted fleet returned a report")
	}
	if _, err := RunAll(ctx, []bucket.Store{listed.store, one.store}, Options{}); err == nil {
		t.Error("an interrupted audit returned a report")
	}
}

// TestAFailedStorageIsNotTriedForEachDestination: the retries of each would take too long.
func TestAFailedStorageIsNotTriedForEachDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := s3test.NewPipe()
		defer fake.Close()
		fake.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
			return s3test.Error(w, http.StatusServiceUnavailable, "SlowDown")
		}})
		var stores []bucket.Store
		for i := range 500 {
			stores = append(stores, openStore(t, bucket.Destination{URL: fmt.Sprintf("s3://%s/%d", s3test.Bucket, i), S3: bucket.S3Options{
				Endpoint: fake.URL, Region: "us-east-1", PathStyle: "on", CredentialsFile: s3test.KeysFile(t, s3test.User, s3test.Secret, ""), Dial: fake.Dial,
			}}))
		}
		began := time.Now()
		f, err := RunFleet(t.Context(), stores, FleetOptions{})
		if err != nil || len(f.Failed()) != len(stores) {
			t.Fatalf("%v, %+v", err, f)
		}
		r, err := RunAll(t.Context(), stores, Options{})
		if err != nil || len(r.Failed()) != len(stores) {
			t.Fatalf("%v, %+v", err, r)
		}
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}
