package bucket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"collectord/shipper/bucket/s3test"
)

func TestAPatternOverAnEndlessListingEnds(t *testing.T) {
	f, s := newFake(t)
	n := 0
	f.Behave(s3test.Behaviour{Fault: servePages(func(string) page {
		n++
		return page{IsTruncated: true, NextContinuationToken: "x", CommonPrefixes: []commonPrefix{{"wards/a/"}, {"wards/b/"}}}
	})})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	names, err := s.prefixesOf(ctx, "wards/")
	if err == nil || ctx.Err() != nil {
		t.Errorf("got %d names in %d pages, %v", len(names), n, err)
	}
}

func TestAnUnencryptedHeartbeatBlocksUsages(t *testing.T) {
	f, s := newFake(t, func(o *S3Options) { o.SSE = "s3" })
	if err := s.Put(t.Context(), testObject("a", "x")); err != nil {
		t.Fatal(err)
	}
	f.Behave(s3test.Behaviour{Encryption: s3test.Disregard})
	h := NewObject("_collectord/nodes/n-0000000000000007.json", []byte("{}"))
	h.Latest = true
	if err := s.Put(t.Context(), h); err == nil {
		t.Error("the put of an unencrypted heartbeat succeeded")
	}
	err := s.Put(t.Context(), testObject("b", "x"))
	if _, sent := f.Objects()["data/b"]; sent || err == nil {
		t.Errorf("usage was sent: %v, %v", sent, err)
	}
}

// TestAnEndlessAnswerEnds: the library reads each answer that is no object to its end, into memory.
func TestAnEndlessAnswerEnds(t *testing.T) {
	const sent = 32 << 20 // of each answer
	for name, c := range map[string]struct {
		start  string
		status int
		is     func(r *http.Request) bool
		call   func(s *s3Store) error
	}{
		"the region":        {"<LocationConstraint>", 200, func(r *http.Request) bool { return r.URL.Query().Has("location") }, func(s *s3Store) error { return s.Probe(t.Context()) }},
		"a success":         {"<A>", 200, func(r *http.Request) bool { return r.Method == http.MethodPut }, func(s *s3Store) error { return s.Probe(t.Context()) }},
		"an error":          {"<Error><Code>A</Code><Message>", 400, func(r *http.Request) bool { return r.Method == http.MethodPut }, func(s *s3Store) error { return s.Probe(t.Context()) }},
		"a temporary error": {"<Error><Code>A</Code><Message>", 503, func(r *http.Request) bool { return r.Method == http.MethodPut }, func(s *s3Store) error { return s.Probe(t.Context()) }},
		"an unknown key": {"<Error><Code>NoSuchKey</Code><Message>", 404, func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/key") }, func(s *s3Store) error {
			_, _, err := s.Open(t.Context(), "key")
			return err
		}},
		"a listing": {"<ListBucketResult>", 200, func(r *http.Request) bool { return r.URL.Query().Has("list-type") }, func(s *s3Store) error {
			for _, err := range s.List(t.Context(), DataPrefix) {
				return err
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := newFake(t, func(o *S3Options) { o.Region = "" })
			var whole atomic.Bool // an answer was sent to its end
			f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
				if !c.is(r) {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(c.status)
				_, err := io.WriteString(w, c.start)
				text := bytes.Repeat([]byte{'x'}, 1<<20)
				for n := 0; n < sent && err == nil; n += len(text) {
					_, err = w.Write(text)
				}
				if err == nil {
					whole.Store(true)
				}
				return true
			}})
			err := c.call(s)
			if err == nil || len(err.Error()) > 4000 {
				t.Errorf("got an error of %d characters: %.200v", len(fmt.Sprint(err)), err)
			}
			if whole.Load() {
				t.Errorf("%d bytes were read", sent)
			}
		})
	}
}

// TestALongMessageIsCut: a storage chooses its messages, which are logged.
func TestALongMessageIsCut(t *testing.T) {
	f, s := newFake(t)
	f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "<Error><Code>Strange</Code><Message>%s</Message></Error>", strings.Repeat("blah ", 10_000))
		return true
	}})
	if err := s.Probe(t.Context()); err == nil || len(err.Error()) > 2000 || len(FailureOf(err).Text) > 2000 || !strings.Contains(err.Error(), "blah") {
		t.Errorf("got %d characters: %.200v", len(fmt.Sprint(err)), err)
	}
}
