package bucket

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

func TestNothingIsSentUnlessEncryptionIsConfirmed(t *testing.T) {
	t.Parallel()
	storages := map[string]struct {
		encryption int
		confirmed  bool
	}{
		"S3": {s3test.Obey, true}, "Garage, versitygw": {s3test.Disregard, false},
		"rclone, which keeps headers": {s3test.KeepHeader, false}, "a gateway that does not confirm it": {s3test.ObeySilently, false},
	}
	for name, storage := range storages {
		for _, sse := range []string{"s3", "kms", "kms:a-key"} {
			for _, unconfirmed := range []string{"reject", "accept"} {
				t.Run(name+" "+sse+" "+unconfirmed, func(t *testing.T) {
					f, s := newFake(t, func(o *S3Options) { o.SSE, o.SSEUnconfirmed = sse, unconfirmed })
					// The object of the probe already exists. This proves nothing about
					// encryption.
					f.Put("data/"+probeKey, []byte("x"))
					f.Behave(s3test.Behaviour{Encryption: storage.encryption})
					var e *Error
					err := s.Put(t.Context(), testObject("a", "x"))
					stored, sent := f.Objects()["data/a"]
					if storage.confirmed || unconfirmed == "accept" {
						if err != nil || stored.Header.Get("X-Amz-Server-Side-Encryption") == "" {
							t.Errorf("%v", err)
						}
						return
					}
					if !errors.As(err, &e) || e.Kind != NotEncrypted || !e.Permanent || e.ThisObjectOnly || !strings.Contains(e.Hint, "shipper.s3.sse_unconfirmed: accept") || sent {
						t.Errorf("usage was sent: %v, %v", sent, err)
					}
					f.Behave(s3test.Behaviour{})
					if err := s.Put(t.Context(), testObject("a", "x")); err != nil {
						t.Errorf("the storage encrypts again: %v", err)
					}
				})
			}
		}
	}
}

// TestAStorageThatStopsEncryptingIsDetected: the first answer without a confirmation reveals it.
func TestAStorageThatStopsEncryptingIsDetected(t *testing.T) {
	var text bytes.Buffer
	f, s := newFake(t, func(o *S3Options) { o.SSE = "s3" }, logTo(&text))
	if err := s.Put(t.Context(), testObject("a", "x")); err != nil {
		t.Fatal(err)
	}
	f.Behave(s3test.Behaviour{Encryption: s3test.Disregard})
	for _, key := range []string{"b", "c", "d"} {
		var e *Error
		if err := s.Put(t.Context(), testObject(key, "x")); !errors.As(err, &e) || e.Kind != NotEncrypted {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, c := f.Objects()["data/c"]; c {
		t.Error("more than one usage was sent without encryption")
	}
	f.Behave(s3test.Behaviour{})
	if err := s.Put(t.Context(), testObject("c", "x")); err != nil || strings.Count(text.String(), "found out") != 1 {
		t.Errorf("%v, %s", err, text.String())
	}
}

func TestAnUnexpectedStorageClassIsAWarning(t *testing.T) {
	t.Parallel()
	forbidden := func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method != http.MethodPut && s3test.Error(w, http.StatusForbidden, "AccessDenied")
	}
	for name, c := range map[string]struct {
		class     string
		behaviour s3test.Behaviour
		warning   string
	}{
		"none":           {"", s3test.Behaviour{Class: s3test.Disregard}, ""},
		"echoed":         {"STANDARD_IA", s3test.Behaviour{}, ""},
		"the default":    {"STANDARD", s3test.Behaviour{}, ""},
		"not echoed":     {"STANDARD_IA", s3test.Behaviour{Class: s3test.Disregard}, "the storage accepts shipper.s3.storage_class, but reports that the object has"},
		"an archive":     {"GLACIER", s3test.Behaviour{Class: s3test.Archive}, "can't be read back before they are restored"},
		"reading denied": {"STANDARD_IA", s3test.Behaviour{Fault: forbidden}, "grant s3:GetObject"},
		"no conditions":  {"REDUCED_REDUNDANCY", s3test.Behaviour{Class: s3test.Disregard, Conditions: s3test.Refuse}, "the storage accepts shipper.s3.storage_class"},
	} {
		t.Run(name, func(t *testing.T) {
			var text bytes.Buffer
			f, s := newFake(t, func(o *S3Options) { o.StorageClass = c.class }, logTo(&text))
			f.Behave(c.behaviour)
			for _, key := range []string{"a", "b"} {
				if err := s.Put(t.Context(), testObject(key, "x")); err != nil {
					t.Fatal(err)
				}
			}
			warnings := 0
			if c.warning != "" {
				warnings = 1
			}
			if strings.Count(text.String(), "level=WARN") != warnings || !strings.Contains(text.String(), c.warning) {
				t.Errorf("the log: %s", text.String())
			}
		})
	}
}
