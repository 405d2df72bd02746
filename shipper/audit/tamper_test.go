package audit

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"collectord/shipper/bucket"
)

// testBucket is a bucket that a test can change like its other users.
type testBucket struct {
	t        *testing.T
	store    bucket.Store
	delete   func(key string) error
	touch    func(key string, at time.Time) // changes when the storage accepted an object; nil: not supported
	metadata bool                           // the storage keeps metadata
}

func (b testBucket) keys(prefix string) (keys []string) {
	b.t.Helper()
	for key, err := range b.store.List(context.Background(), prefix) {
		if err != nil {
			b.t.Fatal(err)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// keyOfSeq returns the key of the object whose first seq is seq.
func (b testBucket) keyOfSeq(seq uint64) string {
	b.t.Helper()
	for _, k := range b.keys("dt=") {
		if n, ok := bucket.ParseKey(k); ok && n.FirstSeq == seq {
			return k
		}
	}
	b.t.Fatalf("no object begins with %d", seq)
	return ""
}

func (b testBucket) get(key string) (content []byte, m bucket.Metadata) {
	b.t.Helper()
	body, stored, err := b.store.Open(context.Background(), key)
	if err != nil {
		b.t.Fatal(err)
	}
	defer body.Close()
	if content, err = io.ReadAll(body); err != nil {
		b.t.Fatal(err)
	}
	return content, stored.Metadata
}

func (b testBucket) put(key string, content []byte, m bucket.Metadata) {
	b.t.Helper()
	o := bucket.NewObject(key, content)
	if m.SHA256 != "" {
		o.Metadata = m
	}
	if err := b.store.Put(context.Background(), o); err != nil {
		b.t.Fatal(err)
	}
}

// copyObject copies an object with its metadata, as common tools do.
func (b testBucket) copyObject(from, to string) {
	b.t.Helper()
	content, m := b.get(from)
	b.put(to, content, m)
}

func (b testBucket) remove(key string) {
	b.t.Helper()
	if err := b.delete(key); err != nil {
		b.t.Fatal(err)
	}
}

func (b testBucket) replace(key string, content []byte, m bucket.Metadata) {
	b.t.Helper()
	b.remove(key)
	b.put(key, content, m)
}

// findings runs an audit and returns a line for each finding.
func (b testBucket) findings(o Options) (lines []string, r *Report) {
	b.t.Helper()
	r, err := Run(context.Background(), b.store, o)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range r.Findings {
		line := string(f.Kind)
		if f.FirstSeq > 0 {
			line += fmt.Sprintf(" %d-%d", f.FirstSeq, f.LastSeq)
		}
		if f.Kind == Lost {
			line += " " + f.Reason
		}
		lines = append(lines, line)
	}
	return lines, r
}

func (b testBucket) checkFindings(o Options, wrong bool, want ...string) *Report {
	b.t.Helper()
	got, r := b.findings(o)
	if !slices.Equal(got, want) || r.Wrong() != wrong {
		b.t.Errorf("audit %+v finds, wrong: %v\n  %s\nwant\n  %s", o, r.Wrong(), strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		for _, f := range r.Findings {
			b.t.Logf("%+v", f)
		}
	}
	return r
}

// onEveryStore runs a test with a folder and with a real server.
func onEveryStore(t *testing.T, test func(t *testing.T, b testBucket)) {
	t.Run("folder", func(t *testing.T) { test(t, newFolder(t)) })
	t.Run("MinIO", func(t *testing.T) { test(t, newBucket(t)) })
}
