package bucket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// logTo makes a store log to a buffer.
func logTo(b *bytes.Buffer) func(*S3Options) {
	return func(o *S3Options) { o.Logger = slog.New(slog.NewTextHandler(b, nil)) }
}

// collectordKeys returns the keys below _collectord.
func collectordKeys(f *s3test.Server) []string {
	return slices.Sorted(func(yield func(string) bool) {
		for key := range maps.Keys(f.Objects()) {
			if strings.Contains(key, "/_collectord/") && !yield(strings.TrimPrefix(key, "data/_collectord/")) {
				return
			}
		}
	})
}

func TestAChecksumIsUsedOnlyIfTheStorageVerifiesIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		behaviour s3test.Behaviour
		checksum  string
		leftKeys  string // besides the object of the probe
	}{
		"S3":                                {s3test.Behaviour{}, "crc32c", ""},
		"Ceph RGW 16, JuiceFS":              {s3test.Behaviour{BlindCRC32C: true}, "md5", "wrong-crc32c.json"},
		"s3proxy, without conditions":       {s3test.Behaviour{BlindCRC32C: true, Conditions: s3test.Ignore}, "md5", ""},
		"rejects conditions":                {s3test.Behaviour{BlindCRC32C: true, Conditions: s3test.Refuse}, "md5", ""},
		"Swift 2.30 over http":              {s3test.Behaviour{BlindCRC32C: true, NoChunks: true}, "sha256", ""},
		"signed chunks, CRC-32C unverified": {s3test.Behaviour{BlindCRC32C: true, NoMD5: true}, "sha256", "wrong-crc32c.json"},
		"verifies only the signature":       {s3test.Behaviour{BlindCRC32C: true, BlindMD5: true}, "sha256", "wrong-crc32c.json wrong-md5.json"},
		"supports only signed payloads, and does not verify them": {s3test.Behaviour{BlindSHA256: true, NoChunks: true}, "none", "wrong-sha256.json"},
		"moto": {
			s3test.Behaviour{BlindCRC32C: true, BlindMD5: true, BlindSHA256: true},
			"none",
			"wrong-crc32c.json wrong-md5.json wrong-sha256.json",
		},
		"fails with 500 for a wrong CRC-32C": {s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return r.Header.Get("X-Amz-Checksum-Crc32c") != "" && strings.Contains(r.URL.Path, "/wrong-") && s3test.Error(w, http.StatusInternalServerError, "InternalError")
		}}, "md5", ""},
		"rejects a wrong CRC-32C as invalid": {s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/wrong-") && s3test.Error(w, http.StatusBadRequest, "InvalidRequest")
		}}, "crc32c", ""},
		"checks the condition before it rejects CRC-32C": {s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return r.Header.Get("X-Amz-Checksum-Crc32c") != "" && (r.Header.Get("If-None-Match") == "" || strings.Contains(r.URL.Path, "/wrong-")) &&
				s3test.Error(w, http.StatusBadRequest, "InvalidRequest")
		}}, "md5", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := newFake(t)
			f.Behave(c.behaviour)
			want := strings.TrimSpace("conditional-put.json " + c.leftKeys)
			for start := range 3 { // starts of daemons with the same prefix
				var text bytes.Buffer
				s := testS3(t, f.URL, s3test.Bucket, "data/", logTo(&text))
				if err := s.Probe(t.Context()); err != nil {
					t.Fatal(err)
				}
				if can := s.Capabilities(); can.Checksum != c.checksum || strings.Count(text.String(), "\n") != 1 ||
					!strings.Contains(text.String(), "level=INFO") || !strings.Contains(text.String(), "checksum="+c.checksum) {
					t.Errorf("found %+v; %s", can, text.String())
				}
				if got := strings.Join(collectordKeys(f), " "); got != want {
					t.Errorf("start %d leaves %s, want %s", start, got, want)
				}
				o := testObject(fmt.Sprint(start), "content")
				if err := s.Put(t.Context(), o); err != nil {
					t.Fatal(err)
				}
				h := f.Objects()["data/"+o.Key].Header
				sent := map[string]bool{
					"crc32c": h.Get("X-Amz-Checksum-Crc32c") != "", "md5": h.Get("Content-Md5") != "",
					"sha256": len(h.Get("X-Amz-Content-Sha256")) == 64, "none": false,
				}
				for checksum, isSent := range sent {
					forced := checksum == "sha256" && c.behaviour.NoChunks
					if isSent != (checksum == c.checksum || forced) && checksum != "none" {
						t.Errorf("checksum %s is sent: %v", checksum, isSent)
					}
				}
			}
			for key, n := range f.Puts() {
				if n > 1 && key != "data/"+probeKey {
					t.Errorf("%s was replaced", key)
				}
			}
		})
	}
}

// TestATemporaryErrorDoesNotShowWhetherAChecksumIsVerified has a storage that fails only
// for a wrong checksum.
func TestATemporaryErrorDoesNotShowWhetherAChecksumIsVerified(t *testing.T) {
	t.Parallel()
	for _, status := range []int{408, 425, 429, 502, 503, 504, 507, 599} {
		for _, checksum := range []string{"auto", "crc32c"} {
			f, s := newFake(t, func(o *S3Options) { o.Checksum = checksum })
			f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
				return strings.Contains(r.URL.Path, "/wrong-") && s3test.Error(w, status, "Trouble")
			}})
			var e *Error
			if err := s.Probe(t.Context()); !errors.As(err, &e) || e.Permanent || s.Capabilities() != (Capabilities{}) {
				t.Errorf("%d, %s: found %+v, %v", status, checksum, s.Capabilities(), err)
			}
			f.Behave(s3test.Behaviour{})
			if err := s.Probe(t.Context()); err != nil || s.Capabilities().Checksum != "crc32c" {
				t.Errorf("%d, %s: found %+v later, %v", status, checksum, s.Capabilities(), err)
			}
		}
	}
	// Three failures with 500 may have another cause.
	f, s := newFake(t)
	var fails atomic.Int64
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/wrong-") && fails.Add(1) <= 3 && s3test.Error(w, 500, "InternalError")
	}})
	if err := s.Probe(t.Context()); err != nil || s.Capabilities().Checksum != "crc32c" {
		t.Errorf("found %+v, %v", s.Capabilities(), err)
	}
}

// TestAProbeThatNeverGetsAnAnswerEnds has a proxy that fails only for a wrong checksum,
// because the storage behind it closes the connection.
func TestAProbeThatNeverGetsAnAnswerEnds(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup // all at once, since they mostly wait
	defer all.Wait()
	for name, fault := range map[string]func(w http.ResponseWriter) bool{
		"503":     func(w http.ResponseWriter) bool { return s3test.Error(w, 503, "ServiceUnavailable") },
		"a page":  func(w http.ResponseWriter) bool { return s3test.LoginPage(w, 502) },
		"aborted": s3test.Abort,
	} {
		for checksum, want := range map[string]string{"auto": "md5", "crc32c": ""} {
			f, s := newFake(t, func(o *S3Options) { o.Checksum = checksum })
			all.Go(func() {
				f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
					return r.Header.Get("X-Amz-Checksum-Crc32c") != "" && strings.Contains(r.URL.Path, "/wrong-") && fault(w)
				}})
				var e *Error
				err := s.Probe(t.Context())
				for n := 0; n < maxUnspecificErrors && errors.As(err, &e) && !e.Permanent; n++ {
					err = s.Probe(t.Context())
				}
				if can := s.Capabilities().Checksum; can != want || (want == "") != (errors.As(err, &e) && e.Kind == Unverified) {
					t.Errorf("%s, %s: found %q, %v", name, checksum, can, err)
				}
			})
		}
	}
}

// TestTheProbeNoticesThatAnUpgradedStorageVerifies has a storage in which an earlier probe left a
// wrong object.
func TestTheProbeNoticesThatAnUpgradedStorageVerifies(t *testing.T) {
	f, s := newFake(t)
	f.Behave(s3test.Behaviour{BlindCRC32C: true})
	if err := s.Probe(t.Context()); err != nil || s.Capabilities().Checksum != "md5" {
		t.Fatalf("%+v, %v", s.Capabilities(), err)
	}
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool { // checked before the checksum
		return strings.HasSuffix(r.URL.Path, "/wrong-crc32c.json") && s3test.Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
	}})
	s = testS3(t, f.URL, s3test.Bucket, "data/")
	if err := s.Probe(t.Context()); err != nil || s.Capabilities().Checksum != "crc32c" {
		t.Errorf("%+v, %v", s.Capabilities(), err)
	}
}

func TestAConfiguredChecksumMustBeVerified(t *testing.T) {
	for _, c := range []struct {
		checksum  string
		behaviour s3test.Behaviour
	}{
		{"crc32c", s3test.Behaviour{BlindCRC32C: true}}, {"md5", s3test.Behaviour{BlindMD5: true}}, {"sha256", s3test.Behaviour{BlindSHA256: true}},
	} {
		f, s := newFake(t, func(o *S3Options) { o.Checksum = c.checksum })
		f.Behave(c.behaviour)
		var e *Error
		if err := s.Put(t.Context(), testObject("a", "x")); !errors.As(err, &e) || e.Kind != Unverified || !e.Permanent || !strings.Contains(e.Hint, "shipper.s3.checksum: auto") {
			t.Errorf("%s: %v", c.checksum, err)
		}
		if _, sent := f.Objects()["data/a"]; sent {
			t.Errorf("%s: a usage was sent", c.checksum)
		}
		f.Behave(s3test.Behaviour{})
		if err := s.Put(t.Context(), testObject("a", "x")); err != nil {
			t.Errorf("%s: %v", c.checksum, err)
		}
	}
}

// TestTheProbeSurvivesEachCallThatFails uses new and warm connections. No usage is sent before
// encryption is confirmed.
func TestTheProbeSurvivesEachCallThatFails(t *testing.T) {
	t.Parallel()
	failures := map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"aborted":   func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Abort(w) },
		"500":       func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Error(w, 500, "InternalError") },
		"503":       func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Error(w, 503, "SlowDown") },
		"a page":    s3test.EveryPage,
		"400 Reset": func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Error(w, 400, "RequestTimeout") },
		"409": func(w http.ResponseWriter, _ *http.Request) bool {
			return s3test.Error(w, 409, "ConditionalRequestConflict")
		},
		"403": func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Error(w, 403, "AccessDenied") },
		"aborted within the body": func(w http.ResponseWriter, r *http.Request) bool {
			io.CopyN(io.Discard, r.Body, 10)
			return s3test.Abort(w)
		},
	}
	var all sync.WaitGroup // all at once, since they mostly wait; t.Parallel runs only a few
	defer all.Wait()
	for name, fail := range failures {
		for _, blind := range []bool{false, true} {
			run := func(t *testing.T) {
				want := Capabilities{"yes", "crc32c", "AES256"}
				if blind {
					want.Checksum = "md5"
				}
				for n := 1; ; n++ {
					f, s := newFake(t, func(o *S3Options) { o.SSE, o.StorageClass = "s3", "STANDARD_IA" })
					if n%2 == 0 { // use a warm connection
						if _, err := s.Stat(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
							t.Fatal(err)
						}
					}
					count := 0
					behaviour := s3test.Behaviour{BlindCRC32C: blind, Fault: func(w http.ResponseWriter, r *http.Request) bool {
						if strings.HasSuffix(r.URL.Path, "/data/usage") && s.current.Load() == nil {
							t.Error("a usage was sent before the end of the probe")
						}
						if count++; count != n {
							return false
						}
						return fail(w, r)
					}}
					f.Behave(behaviour)
					var err error
					attempts := 0
					for range 5 {
						attempts++
						if err = s.Put(t.Context(), testObject("usage", "x")); err == nil || errors.Is(err, ErrExists) {
							break
						}
					}
					if err != nil && !errors.Is(err, ErrExists) || s.Capabilities() != want {
						t.Errorf("call %d failed: %+v after %d attempts, %v", n, s.Capabilities(), attempts, err)
					}
					if count < n {
						return // each call has failed once
					}
				}
			}
			all.Go(func() { t.Run(fmt.Sprint(name, " blind ", blind), run) })
		}
	}
}

func TestAStorageThatIsDownAtStartIsProbedWhenItComesBack(t *testing.T) {
	f, _ := newFake(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	s := testS3(t, "http://"+addr, s3test.Bucket, "data/", func(o *S3Options) { o.SSE = "s3" })
	var e *Error
	if err := s.Probe(t.Context()); !errors.As(err, &e) || e.Kind != "network" || e.Permanent || s.Capabilities() != (Capabilities{}) {
		t.Fatalf("%+v, %v", s.Capabilities(), err)
	}
	if ln, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	up := &http.Server{Handler: f}
	go func() { _ = up.Serve(ln) }()
	t.Cleanup(func() { up.Close() })
	if err := s.Put(t.Context(), testObject("a", "x")); err != nil || s.Capabilities() != (Capabilities{"yes", "crc32c", "AES256"}) {
		t.Errorf("%+v, %v", s.Capabilities(), err)
	}
}

// TestCapabilitiesOfRealStorages checks the storages that make tools builds.
func TestCapabilitiesOfRealStorages(t *testing.T) {
	t.Parallel()
	var e *Error
	minio := newBucket(t, s3test.MinIO(t), false, func(o *S3Options) { o.SSE = "s3" })
	if err := minio.Put(t.Context(), testObject("a", "x")); err != nil || minio.Capabilities() != (Capabilities{"yes", "crc32c", "AES256"}) {
		t.Errorf("MinIO: %+v, %v", minio.Capabilities(), err)
	}
	versity := newBucket(t, s3test.Versity(t), false, func(o *S3Options) { o.SSE = "s3" })
	if err := versity.Put(t.Context(), testObject("a", "x")); !errors.As(err, &e) || e.Kind != NotEncrypted {
		t.Errorf("versitygw: %v", err)
	}
	if _, err := versity.Stat(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("versitygw stored the usage: %v", err)
	}
	var text bytes.Buffer
	versity = newBucket(t, s3test.Versity(t), false, logTo(&text), func(o *S3Options) { o.SSE, o.SSEUnconfirmed, o.StorageClass = "kms", "accept", "GLACIER" })
	if err := versity.Put(t.Context(), testObject("a", "x")); err != nil || versity.Capabilities() != (Capabilities{"yes", "crc32c", "none"}) ||
		!strings.Contains(text.String(), `reports that the object has the class \"STANDARD\"`) {
		t.Errorf("versitygw: %+v, %v, %s", versity.Capabilities(), err, text.String())
	}
	for name, s := range map[string]*s3Store{"MinIO": minio, "versitygw": versity} { // only the probe and the usage remain
		for key, err := range s.List(t.Context(), "") {
			if err != nil || key != probeKey && key != "a" {
				t.Errorf("%s: %s, %v", name, key, err)
			}
		}
	}
}
