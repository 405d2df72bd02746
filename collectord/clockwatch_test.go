package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// TestTheDaemonWarnsWhileTheClockIsWrong sets the clock wrong, and right again.
func TestTheDaemonWarnsWhileTheClockIsWrong(t *testing.T) {
	var text bytes.Buffer
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	ahead, compared, records := time.Duration(0), false, uint64(0)
	w := &clockWatch{
		storageClock:  func() (time.Duration, bool) { return ahead, compared },
		countAppended: func() uint64 { return records },
		logger:        slog.New(slog.NewTextHandler(&text, nil)),
		newestRecord:  now.Add(-2 * time.Hour),
		builtAt:       now.Add(-24 * time.Hour),
	}
	step := func(what string, change func(), wrong bool, line string) {
		t.Helper()
		text.Reset()
		change()
		w.check(now)
		if w.wrong.Load() != wrong || (line == "") != (text.Len() == 0) || !strings.Contains(text.String(), line) {
			t.Errorf("%s: wrong: %t, %q", what, w.wrong.Load(), text.String())
		}
		if line != "" && !strings.Contains(text.String(), "trouble=clock") {
			t.Errorf("%s: %q", what, text.String())
		}
	}
	step("no other clock is known", func() {}, false, "")
	step("the clock is ahead of the storage's", func() { ahead, compared = time.Hour, true }, true, "level=WARN msg=\"the clock is wrong: the clock is 1h0m0s ahead of the storage's")
	step("the clock is still ahead", func() {}, true, "level=WARN")
	step("usages come in while the clock is ahead", func() { records++ }, true, "level=WARN")
	step("NTP sets the clock back", func() { compared = false; now = now.Add(-time.Hour) }, true, "but the newest record is of")
	step("the clock agrees with the storage's", func() { ahead, compared = 0, true }, false, "level=INFO msg=\"the clock is right again\"")
	step("usages come in while the clock is right", func() { records++; now = now.Add(time.Hour) }, false, "")
	step("the clock goes back", func() { compared = false; now = now.Add(-10 * time.Minute) }, true, "but the newest record is of")
	step("the clock passes the newest record", func() { now = now.Add(11 * time.Minute) }, false, "right again")
	step("the clock starts in 1970", func() { now = now.Add(-50 * 365 * 24 * time.Hour) }, true, "but this program was built on 2026-11-26")
	step("the clock is set", func() { now = now.Add(50 * 365 * 24 * time.Hour) }, false, "right again")
	step("the clock goes back, but not before the newest record", func() { now = now.Add(-time.Minute) }, false, "")
}

// TestTheDaemonComparesItsClock has a storage whose clock is behind, and a log whose newest
// record is of tomorrow.
func TestTheDaemonComparesItsClock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fake := fakeStorage(t, withDateAhead(-time.Hour))
	writeKeys(t, dir)
	makeUnshippedLog(t, dir)
	setModifiedTomorrow(t, dir)
	config, port, admin := configure(t, dir, storageSettings(fake, dir))
	d := start(t, config, port, admin)
	until(t, "the metric reports a wrong clock", func() bool { return d.metrics()["collectord_clock_trouble"] == 1 })
	until(t, "the wrong clock is logged", func() bool { return strings.Contains(d.log(), "trouble=clock") })
	until(t, "the clocks are compared", func() bool {
		offset := d.metrics()["collectord_clock_offset_seconds"]
		return offset > 3500 && offset < 3700
	})
	d.stop()
}

// TestTheStartChecksTheStorage starts with nothing to ship. The daemon neither waits for
// the check nor ends because of it.
func TestTheStartChecksTheStorage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fake := fakeStorage(t, refusingAll(404, "NoSuchBucket"))
	writeKeys(t, dir)
	config, port, admin := configure(t, dir, storageSettings(fake, dir))
	d := start(t, config, port, admin)
	until(t, "the step is logged", func() bool { return strings.Contains(d.log(), "trouble=storage_check") })
	for line := range strings.Lines(d.log()) {
		if strings.Contains(line, "trouble=storage_check") && (!strings.Contains(line, "level=WARN") || !strings.Contains(line, " step=bucket ") || !strings.Contains(line, `advice="create the bucket bucket, or correct shipper.destination"`)) {
			t.Error(line)
		}
	}
	d.stop()
}

// TestTheStorageIsCheckedUntilNothingFails has growing intervals between the checks.
func TestTheStorageIsCheckedUntilNothingFails(t *testing.T) {
	keys := keysFile(t)
	synctest.Test(t, func(t *testing.T) {
		fake := s3test.NewPipe()
		defer fake.Close()
		fake.Behave(refusingAll(403, "AccessDenied"))
		store, err := bucket.Open(bucket.Destination{URL: "s3://bucket/p", S3: bucket.S3Options{
			Endpoint: "http://192.0.2.1", Region: "x", PathStyle: "on", CredentialsFile: keys, Dial: fake.Dial,
		}})
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		began := time.Now()
		time.AfterFunc(20*time.Minute, func() { fake.Behave(s3test.Behaviour{}) })
		checkStorage(t.Context(), store, time.Minute, slog.New(slog.NewTextHandler(&text, nil)))
		// The intervals are 10, 20 and 40 seconds, and then always 60.
		if n := strings.Count(text.String(), "level=WARN"); n != 22 || !strings.HasSuffix(text.String(), "trouble=storage_check destination=\"s3://bucket/p/ at http://192.0.2.1\"\n") || strings.Count(text.String(), "level=INFO") != 1 || time.Since(began) > 25*time.Minute {
			t.Errorf("after %v: %s", time.Since(began), text.String())
		}
	})
}

// TestAStorageThatNeverEndsAnAnswerIsReported has a storage that is never silent: a byte
// comes every 30 seconds.
func TestAStorageThatNeverEndsAnAnswerIsReported(t *testing.T) {
	keys := keysFile(t)
	synctest.Test(t, func(t *testing.T) {
		fake := s3test.NewPipe()
		defer fake.Close()
		fake.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet {
				return false
			}
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(30 * time.Second):
				case <-r.Context().Done():
				}
			}
			return true
		}})
		store, err := bucket.Open(bucket.Destination{URL: "s3://bucket/p", S3: bucket.S3Options{
			Endpoint: "http://192.0.2.1", Region: "x", PathStyle: "on", CredentialsFile: keys, Dial: fake.Dial,
		}})
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		checkStorage(ctx, store, time.Minute, slog.New(slog.NewTextHandler(&text, nil)))
		if n := strings.Count(text.String(), "the storage has not answered within the time of this check"); n < 2 {
			t.Errorf("%d warnings: %s", n, text.String())
		}
	})
}

// TestAFolderHasNoStepsToCheck has no storage service behind its destination.
func TestAFolderHasNoStepsToCheck(t *testing.T) {
	store, err := bucket.Open(bucket.Destination{URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if steps := bucket.Examine(t.Context(), store); len(steps) > 0 {
		t.Errorf("%+v", steps)
	}
}

// keysFile returns the path of a file of S3 keys.
func keysFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
