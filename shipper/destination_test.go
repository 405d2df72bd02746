package shipper

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// TestStatsShowTheOutageOfTheStorage goes through an outage of a storage that worked
// before, and its end.
func TestStatsShowTheOutageOfTheStorage(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	var failing atomic.Bool
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		return failing.Load() && s3test.Error(w, http.StatusNotFound, "NoSuchBucket")
	}})
	l := openLog(t, t.TempDir())
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: 10 * time.Millisecond, RetryMaxPermanent: 10 * time.Millisecond}})
	destination := func() Destination { return s.Stats().Destination }
	until(t, "the storage was probed", func() bool { return !destination().LastSuccess.IsZero() })
	if d := destination(); d.Name != store.String() || !d.FailingSince.IsZero() || d.Attempts != 0 || d.Failure != (bucket.Failure{}) || !d.NextAttempt.IsZero() {
		t.Errorf("before the outage: %+v", d)
	}
	failing.Store(true)
	began := time.Now()
	fill(t, l, 1, 1)
	until(t, "an attempt has failed", func() bool { return destination().Attempts > 1 })
	d := destination()
	if d.FailingSince.Before(began) || d.FailingSince.After(d.NextAttempt) || d.LastSuccess.After(d.FailingSince) ||
		d.Failure.Kind != "NoSuchBucket" || !d.Failure.Permanent || !strings.Contains(d.Failure.Hint, "create the bucket") || strings.Contains(d.Failure.Text, "create") {
		t.Errorf("in the outage: %+v", d)
	}
	until(t, "another attempt has failed", func() bool { return destination().Attempts > d.Attempts })
	if again := destination(); !again.FailingSince.Equal(d.FailingSince) {
		t.Errorf("failing since %v, later since %v", d.FailingSince, again.FailingSince)
	}
	failing.Store(false)
	drainAll(t, s)
	if after := destination(); !after.FailingSince.IsZero() || after.Failure != (bucket.Failure{}) || !after.LastSuccess.After(d.LastSuccess) || !after.NextAttempt.IsZero() {
		t.Errorf("after the outage: %+v", after)
	}
}

func TestAMissingBucketIsReportedWithNothingToShip(t *testing.T) {
	t.Parallel()
	f, store := newFake(t)
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
		return s3test.Error(w, http.StatusNotFound, "NoSuchBucket")
	}})
	s := start(t, openLog(t, t.TempDir()), store)
	until(t, "the failure is reported", func() bool { return s.Stats().Destination.Failure.Kind == "NoSuchBucket" })
	if d := s.Stats().Destination; d.FailingSince.IsZero() || !d.LastSuccess.IsZero() {
		t.Errorf("%+v", d)
	}
}

func TestFailureOfSplitsAnError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bucket.Failure
	}{
		{errors.New("no room"), bucket.Failure{Kind: "local", Text: "no room"}},
		{
			&bucket.Error{Op: "put", Key: "k", Kind: "dns", Hint: "is it right?", Permanent: true, Err: errors.New("no such host")},
			bucket.Failure{Kind: "dns", Text: "put k: no such host", Hint: "is it right?", Permanent: true},
		},
	} {
		if got := bucket.FailureOf(c.err); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}
